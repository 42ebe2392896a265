"""Names of spans and attributes. Those of OpenTelemetry are its semantic conventions; docs/observing.md lists all."""

# Of HTTP

HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
URL_PATH, URL_SCHEME = "url.path", "url.scheme"
ERROR_TYPE = "error.type"
CANCELLED = "cancelled"
"""What became of a call for which nobody waits any longer: no fault."""

# Of generative AI

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
MAX_TOKENS = "gen_ai.request.max_tokens"
TEMPERATURE = "gen_ai.request.temperature"
TOP_P = "gen_ai.request.top_p"
SEED = "gen_ai.request.seed"
INPUT_MESSAGES = "gen_ai.input.messages"
"""Content: only where traces.content is true, as is the next one."""
OUTPUT_MESSAGES = "gen_ai.output.messages"

CHAT, COMPLETION = "chat", "text_completion"
OWN_PROVIDER = "coe"

# Our own

REQUEST_ID = "coe.request_id"
KEY_ID, KEY_CLASS = "coe.key.id", "coe.key.class"
ROUTER, CATEGORY, MARGIN = "coe.route.router", "coe.route.category", "coe.route.margin"
EXPERTS, CANDIDATES = "coe.route.experts", "coe.route.candidates"
ROLE = "coe.call.role"
COST = "coe.call.cost_usd"
AGGREGATOR, USED = "coe.aggregator", "coe.aggregation.used"
EXPERT = "coe.expert"

# Spans; the others are called by their method and path, or by their operation and expert

ADMISSION, ROUTE = "admission", "route"
QUEUE, SWAP, PREFILL, DECODE = "queue", "swap", "prefill", "decode"


def aggregate(aggregator: str) -> str:
    return f"aggregate {aggregator}"


def call(operation: str, expert: str) -> str:
    return f"{operation} {expert}"


def engine(expert: str) -> str:
    return f"engine {expert}"
