"""Kafka-driven LLM orchestration: durable tasks on Kafka and PostgreSQL."""
