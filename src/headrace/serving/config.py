"""How an endpoint listens, what it answers by default, and when it refuses more work."""

from dataclasses import dataclass, field

from headrace.errors import ConfigError

HIGHEST_PORT = 65_535


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingConfig:
    """One serving process; requests may override the defaults of generation, never the limits."""

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` listens on all of them."""

    port: int = 8080
    """Port to listen on; 0 takes any free one."""

    max_new_tokens: int = 16
    """Tokens generated where a request names no `max_tokens`; 16 is OpenAI's default."""

    temperature: float = 1.0
    """Temperature where a request names none; 1 is OpenAI's default, 0 always takes the likeliest token."""

    max_batch: int = 8
    """Completions generated side by side, each with a key-value cache of its own."""

    max_waiting: int = 256
    """Completions that may wait for their turn before requests are refused with 503."""

    max_completions: int = 128
    """Completions one request may ask for: its prompts times its `n`."""

    max_body_bytes: int = 2**22
    """Largest request body that is read."""

    ready_seconds: float = 120.0
    """How long `launch` waits for the process to load the checkpoint and answer."""

    grace_seconds: int = 5
    """How long running requests may take to end after SIGTERM."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= HIGHEST_PORT:
            raise ConfigError(f"port={self.port} is no TCP port. Give one from 0 (any free one) to {HIGHEST_PORT}.")
        for name in ("max_new_tokens", "max_batch", "max_waiting", "max_completions", "max_body_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} leaves nothing to serve. Give at least 1.")
        if not 0 <= self.temperature <= 2:
            raise ConfigError(f"temperature={self.temperature} is outside 0 to 2. Give 0 for the likeliest token.")
        if self.ready_seconds <= 0 or self.grace_seconds < 0:
            raise ConfigError(
                f"ready_seconds={self.ready_seconds} and grace_seconds={self.grace_seconds} must be above 0 and not "
                "below 0. Raise them."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class DeployConfig:
    """A deployment: how the endpoint serves, and what it is asked before it counts."""

    probes: tuple[str, ...]
    """Prompts asked greedily once it is ready; their answers are kept with the endpoint."""
    server: ServingConfig = field(default_factory=lambda: ServingConfig(port=0))
    """Any free port unless one is given."""

    def __post_init__(self) -> None:
        if not self.probes:
            raise ConfigError("probes is empty, and an endpoint counts once it has answered. Give at least one prompt.")
