"""Every metric of the product: names, labels and buckets in one place.

Model metrics carry the names under which OpenTelemetry exports them, so ready-made dashboards fit.
"""

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

TOKENS = tuple(float(4**n) for n in range(14))
OPERATION_SECONDS = tuple(0.01 * 2**n for n in range(14))
COMMIT_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
LATENCY_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0, 300.0)
BATCH_ROWS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 512.0)

# The model, under OpenTelemetry's names.

TOKEN_USAGE = Histogram(
    "gen_ai_client_token_usage",
    "Tokens of one model call",
    ["gen_ai_token_type", "gen_ai_request_model", "gen_ai_provider_name"],
    buckets=TOKENS,
)
MODEL_COST = Counter(
    "orchestrator_model_cost_total",
    "Money that model calls cost, by the prices of the settings",
    ["gen_ai_request_model", "gen_ai_provider_name"],
)
AGENT_COST = Counter(
    "orchestrator_agent_cost_total",
    "Money that agent calls cost, as the agents said or declared",
    ["agent"],
)
BUDGETS_SPENT = Counter(
    "orchestrator_budgets_spent_total",
    "Planner's turns that were not made because the task's budget does not reach for them",
    ["resource"],
)
MODEL_SECONDS = Histogram(
    "gen_ai_client_operation_duration_seconds",
    "Duration of one model call; error_type is empty where it succeeded",
    ["gen_ai_operation_name", "gen_ai_request_model", "gen_ai_provider_name", "error_type"],
    buckets=OPERATION_SECONDS,
)
TOOL_SECONDS = Histogram(
    "gen_ai_execute_tool_duration_seconds",
    "Duration of one agent call; the tool is the agent",
    ["gen_ai_tool_name", "status"],
    buckets=OPERATION_SECONDS,
)

# Whom calls go to: agents as `agent/{tenant}/{id}`, models as `model/{name}`.

BREAKER_STATES = {"closed": 0, "half_open": 1, "open": 2}
BREAKER_STATE = Gauge(
    "orchestrator_breaker_state", "0 closed, 1 half open, 2 open: no calls go out", ["target"]
)
CALLS_PARKED = Counter(
    "orchestrator_calls_parked_total", "Calls that could not go out and wait", ["target", "cause"]
)
CALLS_IN_FLIGHT = Gauge("orchestrator_calls_in_flight", "Calls under way", ["target"])
RETRIES_LEFT = Gauge(
    "orchestrator_retry_budget_left", "Second tries that may go out this minute", ["target"]
)

# Intake.

MESSAGES = Counter(
    "orchestrator_messages_total",
    "Messages read from Kafka; result is accepted, event or dead_letter",
    ["topic", "result"],
)
DEAD_LETTERS = Counter(
    "orchestrator_dead_letters_total", "Messages sent to the dead-letter topic", ["reason"]
)
OTHER_CONTENTS = Counter(
    "orchestrator_duplicates_with_other_content_total",
    "Messages that were dropped because their id was known, and that say something else",
    ["topic"],
)
INGEST_SECONDS = Histogram(
    "orchestrator_ingest_seconds", "Duration of one ingest batch", buckets=COMMIT_SECONDS
)
KAFKA_GAP = Gauge(
    "orchestrator_kafka_gap",
    "1 where a partition stands still because Kafka no longer has its next message",
    ["topic", "partition"],
)
KAFKA_LAG = Gauge(
    "orchestrator_kafka_lag", "Messages of a partition not read yet", ["topic", "partition"]
)
KAFKA_BLOCKED = Gauge(
    "orchestrator_kafka_blocked",
    "Messages of a partition that Kafka hands out only when an open transaction before them ends",
    ["topic", "partition"],
)
KAFKA_UNREAD = Gauge(
    "orchestrator_kafka_unread_partitions",
    "Partitions of the input topics that no worker of this service reads",
)
GROUP_REFUSED = Gauge(
    "orchestrator_kafka_group_refused",
    "1 while the consumer group refuses this worker because its members are not of this service",
)
INTAKE_PAUSED = Gauge("orchestrator_intake_paused", "1 while intake from Kafka pauses")

# Tasks.

TASKS_FINISHED = Counter(
    "orchestrator_tasks_finished_total", "Tasks that came to their end here", ["status"]
)
TASKS_RUNNING = Gauge("orchestrator_tasks_running", "Tasks that this process runs")
TASKS_RUNNABLE = Gauge(
    "orchestrator_tasks_runnable",
    "Tasks in PostgreSQL that are due and that nobody runs yet; counted up to 10000",
)
CLAIMS = Counter("orchestrator_claims_total", "Tasks that this process took", ["by"])
CLAIM_SECONDS = Histogram(
    "orchestrator_claim_latency_seconds",
    "From a task's acceptance to its first claim",
    buckets=LATENCY_SECONDS,
)
FENCED = Counter("orchestrator_fenced_total", "Tasks lost to another worker while running here")
STEPS = Counter("orchestrator_steps_total", "Journaled steps", ["kind"])

# Journal and outbox.

JOURNAL_ROWS = Histogram(
    "orchestrator_journal_batch_steps", "Steps written by one statement", buckets=BATCH_ROWS
)
JOURNAL_SECONDS = Histogram(
    "orchestrator_journal_commit_seconds", "Duration of one journal commit", buckets=COMMIT_SECONDS
)
OUTBOX_ROWS = Gauge(
    "orchestrator_outbox_rows", "Messages on their way to Kafka; counted up to 10000"
)
OUTBOX_AGE = Gauge("orchestrator_outbox_age_seconds", "Age of the oldest of them")
OUTBOX_REFUSED = Gauge(
    "orchestrator_outbox_refused_rows",
    "Messages that Kafka refused and that are set aside, as the leader of the relay counts them "
    "each minute, up to 10000",
)
PUBLISH_REFUSED = Counter(
    "orchestrator_publish_refused_total", "Messages that a topic refused", ["topic"]
)
PUBLISHED = Counter("orchestrator_messages_published_total", "Messages sent to Kafka", ["topic"])

OLDEST_SNAPSHOT = Gauge(
    "orchestrator_oldest_snapshot_seconds", "Age of the oldest transaction in the database"
)

# What must hold; measured by the one worker that keeps house.

INVARIANT_VIOLATIONS = Gauge(
    "orchestrator_invariant_violations",
    "Rows that break an invariant, as `orchestrator invariants` counts them; 0 is well",
    ["invariant"],
)

# The process.

HEARTBEAT_AGE = Gauge(
    "orchestrator_heartbeat_age_seconds", "Since this process last proved that it lives"
)


def exposition() -> bytes:
    """All metrics in Prometheus' text format, `CONTENT_TYPE`."""
    return generate_latest(REGISTRY)
