from tests.fixtures.containers import kafka_environment


def test_kafka_in_a_container_advertises_the_bound_port() -> None:
    environment = kafka_environment(20_001)

    assert environment["KAFKA_LISTENERS"].startswith("CLIENT://0.0.0.0:19092,")
    assert environment["KAFKA_ADVERTISED_LISTENERS"].startswith("CLIENT://127.0.0.1:20001,")
    assert environment["KAFKA_PROCESS_ROLES"] == "broker,controller"
