"""The model server in Grafana: whether it answers, how fast, how much, and with which version.

`python -m dashboards.grafana.serving > serving.json` writes what Grafana imports. The metrics are those of
`headrace.serving.metrics`. Probes and scrapes are left out wherever requests are counted: they come every few seconds,
are always fast, and would hide what users see.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueColorMode, BigValueGraphMode, BigValueTextMode
from grafana_foundation_sdk.models.common import LegendDisplayMode as Legend
from grafana_foundation_sdk.models.common import LegendPlacement as Placement
from grafana_foundation_sdk.models.dashboard import Dashboard, DashboardCursorSync, DataSourceRef, VariableRefresh

SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
HERE = 'instance=~"$instance"'
USERS = f'{HERE}, route!~".*/health.*|/metrics|none"'
"""Requests of users: no probe, no scrape, no stranger trying paths that do not exist."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """One panel: what it says, and the queries it says it with."""

    title: str
    description: str
    queries: Mapping[str, str]
    """PromQL by legend."""
    unit: str = "short"
    """A unit of Grafana's, such as `s`, `reqps` or `percentunit`."""


def per_second(metric: str, labels: str = HERE, by: str = "") -> str:
    """The rate of a counter over all servers chosen, or by one of its labels."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{labels}}}[$__rate_interval]))"


def latency(quantile: float, by: str = "") -> str:
    """A quantile of the time from a request's first byte to its answer's last, in seconds."""
    buckets = per_second("headrace_request_seconds_bucket", USERS, f"le, {by}" if by else "le")
    return f"histogram_quantile({quantile}, {buckets})"


FAILED = per_second("headrace_requests_total", f'{USERS}, status=~"5.."')
ANSWERED = per_second("headrace_requests_total", USERS)

NUMBERS = (
    View(
        title="Serving",
        description="The version each server holds.",
        queries={"{{name}} version {{version}}": f"headrace_model_info{{{HERE}}}"},
    ),
    View(
        title="Requests",
        description="Requests of users answered per second, whatever the answer.",
        queries={"requests": ANSWERED},
        unit="reqps",
    ),
    View(
        title="Failed",
        # Without `or`, a server that never failed would have no such series, and the panel no data.
        description="Share of them answered with 5xx: our failure, not a refusal of theirs.",
        queries={"failed": f"({FAILED} or vector(0)) / {ANSWERED}"},
        unit="percentunit",
    ),
    View(
        title="95 % answered within",
        description="From the first byte of a request to the last byte of its answer.",
        queries={"p95": latency(0.95)},
        unit="s",
    ),
)

CHARTS = (
    View(
        title="Requests by status",
        description="499: whoever asked has left. 503: more was waiting than the server takes.",
        queries={"{{status}}": per_second("headrace_requests_total", USERS, "status")},
        unit="reqps",
    ),
    View(
        title="Latency",
        description="Of whole answers, streamed or not; it grows with the tokens asked for.",
        queries={"p50": latency(0.5), "p95": latency(0.95), "p99": latency(0.99)},
        unit="s",
    ),
    View(
        title="Tokens per second",
        description="Read in prompts, and generated.",
        queries={
            "prompts": per_second("headrace_prompt_tokens_total"),
            "completions": per_second("headrace_completion_tokens_total"),
        },
    ),
    View(
        title="Under way",
        description="A queue that does not empty asks for another replica. The scrape itself is one request in flight.",
        queries={
            "requests in flight": f"sum (headrace_requests_in_flight{{{HERE}}})",
            "completions waiting": f"sum (headrace_completions_waiting{{{HERE}}})",
        },
    ),
    View(
        title="Requests by route",
        description="OpenAI's completions and the V2 protocol.",
        queries={"{{route}}": per_second("headrace_requests_total", USERS, "route")},
        unit="reqps",
    ),
    View(
        title="95 % answered within, by route",
        description="Which of them is slow.",
        queries={"{{route}}": latency(0.95, "route")},
        unit="s",
    ),
)


def targets(view: View, *, instant: bool) -> list[prometheus.Dataquery]:
    """The queries of a panel, as Grafana sends them: at the end of the time range, or over it."""
    made = []
    for letter, (legend, expression) in zip("ABCDEFGH", view.queries.items(), strict=False):
        query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(letter).datasource(SOURCE)
        made.append(query.instant() if instant else query.range())
    return made


def number(view: View, panel_id: int) -> stat.Panel:
    """A panel of one large number, or of a name where the number is always 1."""
    named = "{{" in next(iter(view.queries))
    panel = (
        stat.Panel()
        .id(panel_id)
        .title(view.title)
        .description(view.description)
        .datasource(SOURCE)
        .unit(view.unit)
        .text_mode(BigValueTextMode.NAME if named else BigValueTextMode.VALUE)
        .color_mode(BigValueColorMode.NONE)
        .graph_mode(BigValueGraphMode.NONE if named else BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .height(4)
        .span(6)
    )
    for target in targets(view, instant=named):
        panel.with_target(target)
    return panel


def chart(view: View, panel_id: int) -> timeseries.Panel:
    """A panel of lines over time, with the last and the largest value of each beside its name."""
    legend = common.VizLegendOptions().display_mode(Legend.TABLE).placement(Placement.BOTTOM)
    panel = (
        timeseries.Panel()
        .id(panel_id)
        .title(view.title)
        .description(view.description)
        .datasource(SOURCE)
        .unit(view.unit)
        .min(0)
        .fill_opacity(10)
        .legend(legend.show_legend(True).calcs(["lastNotNull", "max"]))
        .height(8)
        .span(12)
    )
    for target in targets(view, instant=False):
        panel.with_target(target)
    return panel


def build() -> Dashboard:
    """The whole dashboard."""
    servers = dashboard.QueryVariable("instance").label("Server").datasource(SOURCE)
    servers.query("label_values(headrace_model_info, instance)").refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    made = (
        dashboard.Dashboard("headrace: model server")
        .uid("headrace-serving")
        .tags(["headrace"])
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
        .with_variable(servers.multi(True).include_all(True).all_value(".*"))
    )
    for panel_id, view in enumerate(NUMBERS, start=1):
        made.with_panel(number(view, panel_id))
    for panel_id, view in enumerate(CHARTS, start=1 + len(NUMBERS)):
        made.with_panel(chart(view, panel_id))
    return made.build()


def to_json() -> str:
    """The dashboard as Grafana imports it."""
    return JSONEncoder(sort_keys=True, indent=2).encode(build())


if __name__ == "__main__":
    print(to_json())
