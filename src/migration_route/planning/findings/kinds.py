"""The findings that this package makes: the severity and the texts of each code.

A word in braces stands for what a rule has found. `core.values` has the families of the
codes; a code never changes its meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

from migration_route.core.enums import Severity
from migration_route.planning.plan import Finding

INFO, WARNING, BLOCKING = Severity.INFO, Severity.WARNING, Severity.BLOCKING


@dataclass(frozen=True, slots=True)
class FindingKind:
    severity: Severity
    message: str
    hint: str
    milder: Severity | None = None  # its severity where it matters less
    is_of_plan: bool = False  # about the plan as a whole, instead of one of its steps


KINDS = {
    # acceptance
    "bad_acceptance": FindingKind(
        WARNING,
        "An acceptance in {step} has no effect: {why}.",
        'Write accepted_findings = {{"CODE": "REASON"}} with a code from the findings '
        "reference.",
    ),
    # the direction of a plan, and what cannot be undone
    "backwards": FindingKind(
        WARNING,
        "This plan goes backwards: it removes what its steps added, including the data.",
        "Use an account or a token with the 'reverse' permission.",
        is_of_plan=True,
    ),
    "irreversible": FindingKind(
        BLOCKING,
        "{step} cannot be reversed: one of its operations is irreversible.",
        "Undo the change with a new forward migration instead.",
    ),
    "one_way": FindingKind(
        INFO,
        "{step} is irreversible: once applied, it cannot be migrated backwards.",
        "Pass reverse_code to RunPython, or reverse_sql to RunSQL.",
    ),
    # what a failure leaves half applied
    "ddl_commits": FindingKind(
        WARNING,
        "This database commits each schema change immediately: a step that fails or is "
        "cancelled midway is left half applied.",
        "Prefer migrations with one operation each.",
        is_of_plan=True,
    ),
    "not_atomic": FindingKind(
        WARNING,
        "{step} runs outside a transaction: if it fails or is cancelled midway, it is left "
        "half applied.",
        "Limit a migration with atomic = False to one operation.",
    ),
    "several_operations": FindingKind(
        WARNING,
        "{step} runs {count} operations outside a transaction: if one fails, the "
        "operations before it stay applied, and the step cannot simply be repeated.",
        "Put each operation into a separate migration.",
    ),
    "concurrent_with_others": FindingKind(
        WARNING,
        "{step} combines a CONCURRENTLY index operation with other operations: if it "
        "fails, the operations before it stay applied, and the step cannot simply be "
        "repeated.",
        "Put each concurrent index operation into a separate migration.",
    ),
    "unprotected_python": FindingKind(
        INFO,
        "This Python code runs outside a transaction: if it fails, what it has written "
        "stays, and repeating the step runs it again.",
        "Make the code skip what is already done, or pass atomic=True to RunPython.",
    ),
    "mixes_data_and_schema": FindingKind(
        WARNING,
        "{step} changes rows and schema in one transaction, so {effect}.",
        "Move the data change into a separate migration.",
    ),
    # Python code
    "forgets_alias": FindingKind(
        WARNING,
        "{function} uses {uses} without naming a database, so on any alias but the default "
        "one it uses the wrong database.",
        "Use .using(schema_editor.connection.alias) and transaction.atomic(using=...).",
        milder=INFO,
    ),
    "imports_models": FindingKind(
        WARNING,
        "{function} uses {uses} from the current code, so it fails when a later release "
        "adds fields that the table does not have at this step.",
        'Use apps.get_model("app", "Model").',
    ),
    # what is lost
    "drops_table": FindingKind(
        WARNING,
        "The table {table} is dropped with its rows, and a running release that still uses "
        "it fails.",
        "Remove the model from the code first, and drop the table in a later release. Back "
        "up the rows that may be needed.",
    ),
    "drops_column": FindingKind(
        WARNING,
        "The column {column} is dropped with its data, and a running release that still "
        "selects it fails.",
        "Remove the field from the state in one release (SeparateDatabaseAndState), and "
        "drop the column in the next.",
    ),
    "drops_rows": FindingKind(
        WARNING,
        "SQL in this step deletes rows of {table}, and reversing the step does not restore "
        "them.",
        "Back up the rows, and delete large numbers of rows in batches.",
    ),
    "narrows_column": FindingKind(
        WARNING,
        "The column {column} is narrowed {detail}: values that do not fit make the step "
        "fail or are truncated, and a running release can still write them.",
        "Find values that do not fit, and first deploy a release that writes none.",
    ),
    # what the running release cannot use
    "adds_required_column": FindingKind(
        WARNING,
        "The column {column} is NOT NULL and has no default in the database, so every "
        "INSERT of the running release fails.",
        "Set db_default on the field, because Django does not keep a default in the "
        "database. Or allow NULL until the new release runs everywhere.",
    ),
    "changes_type": FindingKind(
        WARNING,
        "The type of {column} changes {detail}: values that cannot be converted make the "
        "step fail, and the running release reads and writes the old type.",
        "Add a new column, fill it, switch the code to it, and drop the old column in a "
        "later release.",
    ),
    "renames_table": FindingKind(
        WARNING,
        "The table {table} is renamed to {name}, so every query of the running release on "
        "it fails.",
        "Rename only the model, and keep its db_table.",
    ),
    "renames_column": FindingKind(
        WARNING,
        "The column {column} is renamed to {name}, so every query of the running release "
        "that uses it fails.",
        "Rename only the field and keep its db_column, or add a new column and drop the "
        "old one in a later release.",
    ),
    # what existing rows must satisfy
    "forbids_null": FindingKind(
        WARNING,
        "The column {column} becomes NOT NULL: {nulls} a running release that writes NULL "
        "fails.",
        "First deploy a release that always writes a value, then replace NULL in a "
        "separate migration, then add NOT NULL.",
    ),
    "adds_unique": FindingKind(
        WARNING,
        "{subject} becomes unique{where}: duplicates make the step fail, and the running "
        "release can write more of them.",
        "Find duplicates first, and resolve them in a separate migration.",
    ),
    "adds_check": FindingKind(
        WARNING,
        "The new constraint {name} applies to every row of {table}: a row that violates it "
        "makes the step fail, and the running release can write more such rows.",
        "On PostgreSQL, use AddConstraintNotValid, correct the rows, and add "
        "ValidateConstraint in a later migration.",
    ),
    "adds_reference": FindingKind(
        WARNING,
        "Each value of {column} must now exist in another table: a row whose value does "
        "not exist there makes the step fail.",
        "Find values without a match first, or add the constraint NOT VALID and validate "
        "it later.",
    ),
    # what blocks other sessions; milder on a small table
    "rewrites_table": FindingKind(
        WARNING,
        "Every row of {table}{size} is rewritten, which blocks {waits} until it is done.",
        "Add a new column, fill it in batches, and switch the code to it; or run the step "
        "at a quiet time.",
        milder=INFO,
    ),
    "index_blocks_writes": FindingKind(
        WARNING,
        "Building an index on {table}{size} blocks {waits} until it is done.",
        "On PostgreSQL, use AddIndexConcurrently in a separate migration with atomic = "
        "False.",
        milder=INFO,
    ),
    "not_null_scans": FindingKind(
        WARNING,
        "SET NOT NULL scans all of {table}{size}, which blocks {waits} until it is done.",
        "On PostgreSQL, add a check constraint IS NOT NULL as NOT VALID, validate it in a "
        "later migration, and then set NOT NULL, which skips the scan.",
        milder=INFO,
    ),
    "validates_under_lock": FindingKind(
        WARNING,
        "Checking a new constraint scans all of {table}{size}, which blocks {waits} until "
        "it is done.",
        "On PostgreSQL, add the constraint NOT VALID (AddConstraintNotValid), and validate "
        "it in a later migration (ValidateConstraint).",
        milder=INFO,
    ),
    "scans_table": FindingKind(
        WARNING,
        "The statement scans all of {table}{size}, which blocks {waits} until it is done.",
        "Run the step at a quiet time, or read the table without locking it.",
        milder=INFO,
    ),
    "locks_parent": FindingKind(
        WARNING,
        "Checking a foreign key to {parent} scans all of {table}{size}, which also blocks "
        "{waits} on {parent} until it is done.",
        "Add the constraint NOT VALID, and validate it in a later migration.",
        milder=INFO,
    ),
    # the sides of a deploy; milder in a plan without a phase, which runs in Django's order
    "phase_not_understood": FindingKind(
        WARNING,
        "{step} declares phase = {value}, which is not a phase, so its phase is computed "
        "instead.",
        "Use before_deploy, after_deploy or any.",
    ),
    "mixed_phases": FindingKind(
        WARNING,
        "{step} has operations for before the deploy and for after it. As a whole it runs "
        "before the deploy, and the running release may break.",
        "Split it into two migrations, or declare its phase.",
        milder=INFO,
    ),
    "no_safe_phase": FindingKind(
        WARNING,
        "{step} is safe neither before nor after the deploy. {why}",
        "Use two releases: add and fill first, remove later. Give a column that one "
        "release does not know a db_default or null=True.",
        milder=INFO,
    ),
    "phase_ambiguous": FindingKind(
        BLOCKING,
        "{step} belongs before the deploy, but depends on {behind}, which comes after it.",
        "If the release that {behind} was deferred for is running, apply it first, with "
        "the target {behind}. Otherwise declare the phase of one of them, or apply "
        "everything without a phase.",
    ),
    "before_deploy_pending": FindingKind(
        BLOCKING,
        "Steps for before the deploy are still pending: {steps}.",
        "Apply the phase before_deploy first.",
        is_of_plan=True,
    ),
    "overdue": FindingKind(
        WARNING,
        "{step} was deferred at {since} until after the deploy of build {build}, and "
        "another build is running now.",
        "Apply the phase after_deploy with the target {step}.",
    ),
    # the database as it is, and what the plan does not cover
    "recorder_sequence_behind": FindingKind(
        BLOCKING,
        "The next id of django_migrations is {next_id}, but ids up to {last_id} exist: a "
        "migration cannot be recorded.",
        "A dump restored without its sequences causes this. Run: {remedy}",
        milder=WARNING,
        is_of_plan=True,
    ),
    "invalid_index": FindingKind(
        BLOCKING,
        "The index {index} on {table} is invalid: its concurrent build was interrupted.",
        "Drop it: DROP INDEX CONCURRENTLY {quoted};",
        milder=WARNING,
        is_of_plan=True,
    ),
    "sql_differs": FindingKind(
        WARNING,
        "In the last rehearsal of this plan, {step} sent other statements than the plan "
        "shows.",
        "Read the differences in the report of the rehearsal, and judge the step by what "
        "it sent.",
    ),
    "models_changed": FindingKind(
        WARNING,
        "Model changes without a migration exist in {apps}.",
        "Run 'manage.py makemigrations' and deploy the result.",
        is_of_plan=True,
    ),
    "other_database": FindingKind(
        INFO,
        "The database {database!r} has {count} pending migrations, which are not part of "
        "this plan.",
        "Request a plan for {database!r} as well.",
        is_of_plan=True,
    ),
    "steps_not_read": FindingKind(
        INFO,
        "This plan is long: its last {count} steps, from {first} on, were not checked for "
        "findings.",
        "Request a plan with a nearer target.",
        is_of_plan=True,
    ),
}


def make_finding(
    code: str,
    *,
    step: str | None = None,
    operation: int | None = None,
    is_mild: bool = False,
    **words: object,
) -> Finding:
    """Return a finding of this kind, with `words` in its texts; `is_mild`: it matters less
    here."""
    kind = KINDS[code]
    return Finding(
        code=code,
        severity=kind.milder if is_mild and kind.milder else kind.severity,
        step=step,
        operation=operation,
        message=kind.message.format(step=step, **words),
        hint=kind.hint.format(step=step, **words),
    )
