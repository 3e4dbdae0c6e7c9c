"""Tables the operations layer keeps about the pipeline itself.

What belongs here: verdicts of checks, runs, ranges that were asked for and how far they are, what should be there and
is, changes of inputs and what they moved, received files, messages to people, what was removed for its age. What does
not: Dagster's own event log (a database of its own), and results.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Identity, Index, Table, UniqueConstraint, text

from .columns import code, count, day, document, flag, instant, key, metadata, money, provenance, session_key, stat

TRIGGERS = (
    "schedule",
    "sensor",
    "backfill",
    "manual",
    "demo",
    "import",
    "inbox",
    "gap",
    "restatement",
    "repair",
)
"""Who starts runs; `manual` is everything launched by hand in the Dagster UI."""

RUN_OUTCOMES = ("success", "failure", "canceled")
BACKFILL_STATUSES = ("pending", "processing", "completed", "failed")
AUDIT_STATUSES = ("complete", "partial", "missing", "not_expected")
CHANGE_KINDS = ("added", "revised", "removed", "described")
"""`described`: no result depends on what changed (a name, a colour); kept to say who looked different since when."""
INBOX_STATUSES = ("accepted", "unchanged", "rejected")
ALERT_CHANNELS = ("webhook", "mail")
ALERT_STATUSES = ("pending", "sent", "suppressed")

data_quality_results = Table(
    "data_quality_results",
    metadata,
    session_key(),
    code("asset", "Asset the check belongs to", primary_key=True),
    code("check_name", "Name of the check", primary_key=True),
    code("run_id", "Dagster run that made the check", primary_key=True),
    code("severity", "ERROR blocks what is downstream, WARN does not", isin=("ERROR", "WARN")),
    flag("passed", "Whether the session passed"),
    code("description", "What was found, in one sentence"),
    document("metadata", "Figures behind the verdict"),
    instant("checked_at", "When the check ran"),
    Index("data_quality_results_failed", "asset", "check_name", "session_date"),
    Index("data_quality_results_errors", "checked_at", postgresql_where=text("NOT passed AND severity = 'ERROR'")),
    comment="One row per session, asset, check and run: whether the session passed.",
)

backfill_progress = Table(
    "backfill_progress",
    metadata,
    Column("backfill_id", BigInteger, Identity(), primary_key=True, comment="Identifier given by the database"),
    code("request_key", "What was asked for, spelt so that asking again is the same request"),
    code("requested_by", "Who asked for it", isin=TRIGGERS),
    code("reason", "Why, in one sentence"),
    document("scope", "Portfolios, assets and the runs it takes, in order", nullable=False),
    count("total_symbols", "Symbols whose prices it loads; NULL where it loads none", nullable=True),
    count("processed_symbols", "Of these, symbols with a price in the range", nullable=True),
    count("failed_symbols", "Of these, symbols without any", nullable=True),
    count("total_sessions", "Sessions of its runs, added up"),
    count("done_sessions", "Of these, sessions of runs that succeeded"),
    count("done_runs", "Runs that succeeded; the next one is the one after"),
    code("status", "How far it is", isin=BACKFILL_STATUSES),
    code("driver", "Process that runs it; NULL: the daemon", nullable=True),
    instant("requested_at", "When it was asked for"),
    instant("started_at", "When its first run began", nullable=True),
    instant("completed_at", "When it was done or given up", nullable=True),
    document("error_details", "The run that failed, and why"),
    UniqueConstraint("request_key", name="backfill_progress_request_key"),
    Index("backfill_progress_status", "status"),
    comment="One row per range of sessions that was asked for: its runs, in order, and how far they are.",
)

batch_runs = Table(
    "batch_runs",
    metadata,
    code("run_id", "Dagster's identifier of the run", primary_key=True),
    code("job_name", "Job that ran"),
    day("partition_start", "First session of the run; NULL of reference assets", nullable=True),
    day("partition_end", "Last session of the run", nullable=True),
    code("trigger", "Who started it", isin=TRIGGERS),
    code("status", "How it ended", isin=RUN_OUTCOMES),
    instant("started_at", "When it began to run; NULL where it never did", nullable=True),
    instant("ended_at", "When it ended"),
    stat("duration_seconds", "Seconds from beginning to end", ge=0),
    code("error_message", "What failed, and why; NULL where nothing did", nullable=True),
    key("backfill_id", "Range the run was part of", nullable=True),
    Index("batch_runs_ended", "ended_at"),
    comment="One row per run that ended: what ran, when, how long, with what outcome.",
)

calculation_audit = Table(
    "calculation_audit",
    metadata,
    session_key(),
    key("portfolio_id", "Portfolio; 0 for engines that work for all of them", primary_key=True),
    code("engine", "Table the engine fills", primary_key=True),
    count("rows_expected", "Rows there should be; NULL where their number is not known beforehand", nullable=True),
    count("rows_present", "Rows there are"),
    stat("coverage", "Share of the expected rows that are there", ge=0, le=1),
    code("status", "Whether everything that should be there is", isin=AUDIT_STATUSES),
    code("reason", "Why rows are not there or not expected; NULL where complete", nullable=True),
    instant("oldest_computed_at", "When the oldest of the rows was computed", nullable=True),
    *provenance(),
    Index("calculation_audit_portfolio_session", "portfolio_id", "session_date"),
    comment="One row per session, portfolio and engine: the rows that should be there, those that are, and why not.",
)

input_changes = Table(
    "input_changes",
    metadata,
    Column("change_id", BigInteger, Identity(), primary_key=True, comment="Identifier given by the database"),
    code("table_name", "Input table that changed; portfolio_snapshots: later ones do not follow from those changed"),
    day("session_date", "First session whose results depend on it; of a described one the day it was changed"),
    key("portfolio_id", "Portfolio it concerns; NULL: all of them", nullable=True),
    code("symbol", "Symbol it concerns; NULL: several, or none", nullable=True),
    code("kind", "What happened to the row", isin=CHANGE_KINDS),
    code("detail", "What changed, in words"),
    flag("by_hand", "Whether it was changed by a statement of a person rather than by the pipeline"),
    instant("changed_at", "When it was changed"),
    Index("input_changes_changed", "changed_at"),
    comment="One row per change of a stored price, action, yield, quote, position, mark, flow or tag of computed "
    "sessions, and of what a portfolio is.",
)

recomputation_changes = Table(
    "recomputation_changes",
    metadata,
    code("run_id", "Dagster run that computed anew", primary_key=True),
    code("table_name", "Result table", primary_key=True),
    key("portfolio_id", "Portfolio; 0 for tables that belong to all of them", primary_key=True),
    count("rows_created", "Rows that were not there before"),
    count("rows_updated", "Rows with another figure than before"),
    count("rows_deleted", "Rows that are there no more"),
    count("rows_unchanged", "Rows equal to those before"),
    day("first_changed", "First session with a change", nullable=True),
    day("last_changed", "Last session with a change", nullable=True),
    money("largest_nav_difference", "Largest change of net asset value, signed; snapshots only", nullable=True),
    instant("recorded_at", "When it was recorded"),
    comment="One row per run that computed stored sessions anew, table and portfolio: what it moved.",
)

inbox_files = Table(
    "inbox_files",
    metadata,
    Column("file_id", BigInteger, Identity(), primary_key=True, comment="Identifier given by the database"),
    code("content_sha256", "Hash of the file's bytes; NULL where it was not read", nullable=True),
    code("file_name", "Name it arrived with"),
    code("fingerprint", "Tells a file that was judged and could not be moved yet; NULL once it was", nullable=True),
    code("portfolio_code", "Portfolio it states; NULL where that could not be told", nullable=True),
    code("status", "What became of it", isin=INBOX_STATUSES),
    document("errors", "Everything that was wrong with it; of an accepted file, what it was warned of"),
    key("backfill_id", "Range launched for it", nullable=True),
    code("moved_to", "Where the file lies now, below the inbox; NULL where it was gone before", nullable=True),
    instant("received_at", "When it was judged"),
    Index("inbox_files_content", "content_sha256"),
    comment="One row per file that was taken from the inbox: what became of it.",
)

alert_outbox = Table(
    "alert_outbox",
    metadata,
    Column("alert_id", BigInteger, Identity(), primary_key=True, comment="Identifier given by the database"),
    code("alert_key", "What it is about, spelt so that it is told once"),
    code("channel", "How it is sent", isin=ALERT_CHANNELS),
    code("topic", "What messages of one kind have in common; after one the next of its topic wait"),
    code("subject", "First line"),
    code("body", "The message"),
    code("status", "Whether it was sent", isin=ALERT_STATUSES),
    count("attempts", "Times delivery was tried"),
    code("last_error", "Why the last try failed", nullable=True),
    instant("created_at", "When it was written"),
    instant("next_attempt_at", "Not tried before"),
    instant("sent_at", "When it was delivered", nullable=True),
    UniqueConstraint("alert_key", "channel", name="alert_outbox_key_channel"),
    Index("alert_outbox_status", "status", "next_attempt_at"),
    comment="One row per message to people and channel: kept until it is delivered.",
)

result_retention = Table(
    "result_retention",
    metadata,
    code("table_name", "Result table old sessions were removed of", primary_key=True),
    day("kept_from", "First session whose rows are kept; of earlier ones none need be there"),
    instant("purged_at", "When the sessions before it were removed"),
    comment="One row per result table of which old sessions were removed on purpose: from which session on it is kept.",
)
