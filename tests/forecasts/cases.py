"""The operations that are forecast and then executed, and the tables they run on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import django
from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex, GinIndex, HashIndex
from django.contrib.postgres.operations import (
    AddConstraintNotValid,
    AddIndexConcurrently,
    BtreeGinExtension,
    CreateCollation,
    RemoveCollation,
    RemoveIndexConcurrently,
    TrigramExtension,
    ValidateConstraint,
)
from django.db import migrations as m
from django.db import models
from django.db.migrations.operations.base import Operation
from django.db.models import F, Q
from django.db.models.functions import Lower, Now, Random, Upper

AnyField: TypeAlias = "models.Field[Any, Any]"
Make = Callable[[], Operation]

APP = "shop"
CASCADE = models.CASCADE


def base() -> list[Operation]:
    """Return the initial operations: owners, their items, reviews of the items."""
    key = models.BigAutoField(primary_key=True)
    return [
        m.CreateModel(
            "Owner",
            [
                ("id", key),
                ("name", models.CharField(max_length=50)),
                ("code", models.IntegerField(unique=True)),
            ],
        ),
        m.CreateModel(
            "Item",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("owner", models.ForeignKey("shop.Owner", CASCADE)),
                ("name", models.CharField(max_length=50)),
                ("sku", models.CharField(max_length=20, db_index=True)),
                ("note", models.TextField(null=True)),
                ("price", models.DecimalField(max_digits=8, decimal_places=2)),
                ("quantity", models.IntegerField(default=0)),
                ("made", models.DateTimeField(null=True)),
                ("slug", models.CharField(max_length=40, unique=True)),
            ],
            options={"indexes": [models.Index(fields=["made"], name="item_made")]},
        ),
        m.CreateModel(
            "Review",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("item", models.ForeignKey("shop.Item", CASCADE)),
                ("stars", models.IntegerField()),
            ],
        ),
        m.CreateModel(
            "Bin",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("label", models.CharField(max_length=9)),
            ],
        ),
    ]


FILL = (
    "INSERT INTO shop_owner (name, code) SELECT 'o' || n, n FROM generate_series(1, 50) n",
    "INSERT INTO shop_item (owner_id, name, sku, note, price, quantity, made, slug) "
    "SELECT 1 + n % 50, 'n' || n, n, '\"note\"', n, n, now(), n "
    "FROM generate_series(1, 500) n",
    "INSERT INTO shop_review (item_id, stars) "
    "SELECT 1 + n % 500, n % 5 FROM generate_series(0, 999) n",
    "INSERT INTO shop_bin (label) SELECT 'b' FROM generate_series(1, 100)",
    "SET CONSTRAINTS ALL IMMEDIATE",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One operation, the unobserved operations before it, and its direction."""

    name: str
    operation: Callable[[], Operation]
    before: Callable[[], list[Operation]] = list
    backwards: bool = False
    concurrently: bool = False
    fills: tuple[bool, ...] = (False, True)


def _add(field: AnyField, model: str = "item") -> Callable[[], Operation]:
    return lambda: m.AddField(model, "extra", field.clone())


def _alter(name: str, field: AnyField, model: str = "item") -> Callable[[], Operation]:
    return lambda: m.AlterField(model, name, field.clone())


def _sql(text: str) -> Callable[[], Operation]:
    return lambda: m.RunSQL(text)


def _check() -> models.CheckConstraint:
    return models.CheckConstraint(condition=Q(quantity__gte=0), name="item_counts")


def _not_null() -> models.CheckConstraint:
    return models.CheckConstraint(condition=Q(note__isnull=False), name="item_has_note")


def _unique(**words: Any) -> models.UniqueConstraint:
    return models.UniqueConstraint(**words, name="item_once")


_BY_NAME = models.Index(fields=["name"], name="item_name")
_AUTO = models.BigAutoField(primary_key=True)
_TO_OWNER = models.ForeignKey("shop.Owner", CASCADE, related_name="+")

_MODELS: dict[str, Make] = {
    "CreateModel": lambda: m.CreateModel("Box", [("id", _AUTO.clone())]),
    "CreateModel, foreign key": lambda: m.CreateModel(
        "Box", [("id", _AUTO.clone()), ("owner", _TO_OWNER.clone())]
    ),
    "CreateModel, many to many": lambda: m.CreateModel(
        "Box", [("id", _AUTO.clone()), ("items", models.ManyToManyField("shop.Item"))]
    ),
    "DeleteModel, a child": lambda: m.DeleteModel("Review"),
    "DeleteModel, alone": lambda: m.DeleteModel("Bin"),
    "RenameModel": lambda: m.RenameModel("Item", "Thing"),
    "AlterModelTable": lambda: m.AlterModelTable("item", "things"),
    "AlterModelTableComment": lambda: m.AlterModelTableComment("item", "Things"),
    "AlterUniqueTogether": lambda: m.AlterUniqueTogether("item", {("owner", "slug")}),
    "AlterModelOptions": lambda: m.AlterModelOptions("item", {"verbose_name": "x"}),
    "AlterOrderWithRespectTo": lambda: m.AlterOrderWithRespectTo("item", "owner"),
}
_ADDED: dict[str, AnyField] = {
    "null": models.IntegerField(null=True),
    "default": models.IntegerField(default=3),
    "text default": models.CharField(max_length=9, default="it's; x"),
    "db_default": models.IntegerField(db_default=3),
    "db_default now": models.DateTimeField(db_default=Now()),
    "db_default random": models.FloatField(db_default=Random()),
    "foreign key, null": models.ForeignKey("shop.Owner", CASCADE, null=True,
                                           related_name="+"),
    "foreign key, default": models.ForeignKey("shop.Owner", CASCADE, default=1,
                                              related_name="+"),
    "one to one, null": models.OneToOneField("shop.Owner", CASCADE, null=True,
                                             related_name="+"),
    "self, null": models.ForeignKey("self", CASCADE, null=True),
    "unique, null": models.IntegerField(null=True, unique=True),
    "db_index, null": models.CharField(max_length=9, null=True, db_index=True),
    "generated": models.GeneratedField(expression=F("quantity") * 2, db_persist=True,
                                       output_field=models.IntegerField()),
    "check": models.PositiveIntegerField(null=True),
    "check, default": models.PositiveIntegerField(default=1),
    "json default": models.JSONField(default=dict),
    "array": ArrayField(models.IntegerField(), default=list),
    "many to many": models.ManyToManyField("shop.Owner", related_name="+"),
    "comment": models.IntegerField(null=True, db_comment="why"),
}  # fmt: skip
_ALTERED: dict[str, tuple[str, AnyField]] = {
    "widen": ("name", models.CharField(max_length=80)),
    "narrow": ("name", models.CharField(max_length=30)),
    "unbound": ("name", models.CharField()),
    "to text": ("name", models.TextField()),
    "to text, indexed": ("sku", models.TextField(db_index=True)),
    "widen, indexed": ("sku", models.CharField(max_length=40, db_index=True)),
    "to varchar": ("note", models.CharField(max_length=200, null=True)),
    "int to bigint": ("quantity", models.BigIntegerField(default=0)),
    "int to text": ("quantity", models.TextField(default="")),
    "numeric wider": ("price", models.DecimalField(max_digits=10, decimal_places=2)),
    "numeric scale": ("price", models.DecimalField(max_digits=10, decimal_places=3)),
    "timestamp to date": ("made", models.DateField(null=True)),
    "to not null": ("note", models.TextField(default="x")),
    "to null": ("name", models.CharField(max_length=50, null=True)),
    "unique": ("name", models.CharField(max_length=50, unique=True)),
    "not unique": ("slug", models.CharField(max_length=40)),
    "db_index": ("name", models.CharField(max_length=50, db_index=True)),
    "no db_index": ("sku", models.CharField(max_length=20)),
    "to foreign key": ("quantity", models.ForeignKey("shop.Bin", models.DO_NOTHING,
                                                     null=True, db_constraint=False)),
    "foreign key to null": ("owner", models.ForeignKey("shop.Owner", CASCADE, null=True)),
    "foreign key, no constraint": ("owner", models.ForeignKey("shop.Owner", CASCADE,
                                                              db_constraint=False)),
    "foreign key to integer": ("owner", models.BigIntegerField(db_column="owner_id")),
    "foreign key elsewhere": ("owner", models.ForeignKey("shop.Bin", CASCADE)),
    "db_default": ("quantity", models.IntegerField(db_default=7)),
    "collation": ("name", models.CharField(max_length=50, db_collation="C")),
    "collation, indexed": ("slug", models.CharField(max_length=40, unique=True,
                                                    db_collation="C")),
    "check": ("quantity", models.PositiveIntegerField(default=0)),
    "comment": ("name", models.CharField(max_length=50, db_comment="why")),
    "column": ("name", models.CharField(max_length=50, db_column="title")),
    "key to uuid-like char": ("id", models.CharField(max_length=40, primary_key=True)),
    "key to integer": ("id", models.AutoField(primary_key=True)),
}  # fmt: skip
_INDEXES: dict[str, Make] = {
    "AddIndex": lambda: m.AddIndex("item", _BY_NAME.clone()),
    "AddIndex, expression": lambda: m.AddIndex(
        "item", models.Index(Upper("name"), name="item_upper")
    ),
    "AddIndex, partial": lambda: m.AddIndex(
        "item",
        models.Index(fields=["name"], condition=Q(quantity=3), name="item_part"),
    ),
    "AddIndex, gin": lambda: m.AddIndex(
        "item", GinIndex(models.functions.Cast("note", models.JSONField()), name="item_g")
    ),
    "AddIndex, brin": lambda: m.AddIndex("item", BrinIndex(fields=["made"], name="item_b")),
    "AddIndex, hash": lambda: m.AddIndex("item", HashIndex(fields=["name"], name="item_h")),
    "RemoveIndex": lambda: m.RemoveIndex("item", "item_made"),
    "RenameIndex": lambda: m.RenameIndex("item", "item_when", old_name="item_made"),
    "AddConstraint, check": lambda: m.AddConstraint("item", _check()),
    "AddConstraint, unique": lambda: m.AddConstraint("item", _unique(fields=["name"])),
    "AddConstraint, unique deferrable": lambda: m.AddConstraint(
        "item", _unique(fields=["name"], deferrable=models.Deferrable.DEFERRED)
    ),
    "AddConstraint, unique partial": lambda: m.AddConstraint(
        "item", _unique(fields=["name"], condition=Q(quantity__gt=1))
    ),
    "AddConstraint, unique expression": lambda: m.AddConstraint(
        "item", models.UniqueConstraint(Lower("name"), name="item_lower")
    ),
    "AddConstraint, exclusion": lambda: m.AddConstraint(
        "item",
        ExclusionConstraint(
            name="item_apart", expressions=[("quantity", "=")], index_type="hash"
        ),
    ),
    "AddConstraintNotValid": lambda: AddConstraintNotValid("item", _check()),
}  # fmt: skip
_FIELDS: dict[str, Make] = {
    "RemoveField": lambda: m.RemoveField("item", "note"),
    "RemoveField, foreign key": lambda: m.RemoveField("item", "owner"),
    "RemoveField, indexed": lambda: m.RemoveField("item", "sku"),
    "RenameField": lambda: m.RenameField("item", "name", "title"),
    "RenameField, foreign key": lambda: m.RenameField("item", "owner", "keeper"),
}
_EXTENSIONS: dict[str, Make] = {
    "CreateExtension": TrigramExtension,
    "CreateExtension, another": BtreeGinExtension,
    "CreateCollation": lambda: CreateCollation("german", provider="icu", locale="de-DE"),
}
_RUN_SQL = {
    "update": "UPDATE shop_item SET quantity = quantity + 1",
    "update a parent": "UPDATE shop_owner SET name = 'x'",
    "delete": "DELETE FROM shop_review WHERE stars = 3",
    "insert": "INSERT INTO shop_bin (label) VALUES ('x')",
    "insert, select": "INSERT INTO shop_bin (label) SELECT left(name, 9) FROM shop_item",
    "insert, child": "INSERT INTO shop_review (item_id, stars) SELECT id, 1 FROM shop_item",
    "select": "SELECT count(*) FROM shop_item",
    "foreign key not valid": "ALTER TABLE shop_review ADD CONSTRAINT again FOREIGN KEY "
    "(item_id) REFERENCES shop_item (id) NOT VALID",
    "foreign key": "ALTER TABLE shop_review ADD CONSTRAINT again FOREIGN KEY (item_id) "
    "REFERENCES shop_item (id)",
    "inline foreign key, table": "CREATE TABLE shop_new (id int REFERENCES shop_bin)",
    "drop table cascade": "DROP TABLE shop_item CASCADE",
    "drop column cascade": "ALTER TABLE shop_owner DROP COLUMN id CASCADE",
    "set not null": "ALTER TABLE shop_item ALTER note SET NOT NULL",
    "drop not null": "ALTER TABLE shop_item ALTER COLUMN name DROP NOT NULL",
    "set default": "ALTER TABLE shop_item ALTER note SET DEFAULT 'x'",
    "set statistics": "ALTER TABLE shop_item ALTER note SET STATISTICS 10",
    "set storage": "ALTER TABLE shop_item ALTER note SET STORAGE EXTERNAL",
    "fillfactor": "ALTER TABLE shop_item SET (fillfactor = 80)",
    "unlogged": "ALTER TABLE shop_bin SET UNLOGGED",
    "replica identity": "ALTER TABLE shop_item REPLICA IDENTITY FULL",
    "row security": "ALTER TABLE shop_item ENABLE ROW LEVEL SECURITY",
    "disable trigger": "ALTER TABLE shop_item DISABLE TRIGGER USER",
    "cluster": "CLUSTER shop_item USING shop_item_pkey",
    "reindex": "REINDEX TABLE shop_item",
    "lock": "LOCK TABLE shop_item IN SHARE ROW EXCLUSIVE MODE",
    "comment": "COMMENT ON COLUMN shop_item.name IS 'x'",
    "analyze": "ANALYZE shop_item",
    "view": "CREATE VIEW shop_seen AS SELECT shop_item.* FROM shop_item, shop_owner",
    "stored view": "CREATE MATERIALIZED VIEW shop_kept AS SELECT * FROM shop_item",
    "create table as": "CREATE TABLE shop_copy AS SELECT * FROM shop_item",
    "like": "CREATE TABLE shop_twin (LIKE shop_item INCLUDING ALL)",
    "inherits": "CREATE TABLE shop_heir () INHERITS (shop_item)",
    "statistics": "CREATE STATISTICS s ON name, sku FROM shop_item",
    "policy": "CREATE POLICY p ON shop_item USING (true)",
    "rule": "CREATE RULE r AS ON DELETE TO shop_item DO INSTEAD NOTHING",
    "add serial": "ALTER TABLE shop_item ADD COLUMN n bigserial",
    "add identity": "ALTER TABLE shop_item ADD n int GENERATED ALWAYS AS IDENTITY",
    "add uuid": "ALTER TABLE shop_item ADD n uuid DEFAULT gen_random_uuid()",
    "add stable": "ALTER TABLE shop_item ADD n timestamptz DEFAULT now()",
    "primary key by index": "CREATE UNIQUE INDEX bin_again ON shop_bin (id); "
    "ALTER TABLE shop_bin DROP CONSTRAINT shop_bin_pkey, "
    "ADD PRIMARY KEY USING INDEX bin_again",
    "two actions": "ALTER TABLE shop_item ADD a int, ADD b int CHECK (b > 0)",
    "using": "ALTER TABLE shop_item ALTER name TYPE varchar(60) USING upper(name)",
    "truncate": "TRUNCATE shop_review",
    "truncate cascade": "TRUNCATE shop_item CASCADE",
    "rename constraint": "ALTER TABLE shop_item RENAME CONSTRAINT shop_item_pkey TO k",
    "schema": "CREATE SCHEMA apart; ALTER TABLE shop_bin SET SCHEMA apart",
    "owned sequence": "CREATE SEQUENCE s OWNED BY shop_bin.id",
    "drop index": "DROP INDEX item_made",
    "grant": "GRANT SELECT ON shop_item TO PUBLIC",
    "reset of a sequence": "SELECT setval(pg_get_serial_sequence('\"shop_item\"','id'), "
    'coalesce(max("id"), 1), max("id") IS NOT null) FROM "shop_item"',
    "a block": "DO $$ BEGIN ALTER TABLE shop_item ADD COLUMN z int; END $$",
    "a temporary name": "ALTER TABLE shop_item RENAME TO shop_was; "
    "CREATE TABLE shop_item (id int); ALTER TABLE shop_was ADD q int",
}


def cases() -> list[Case]:
    """Return all cases, each with a unique name."""
    found = [
        *(Case(name=name, operation=make) for name, make in _MODELS.items()),
        *(
            Case(name=f"AddField, {name}", operation=_add(field))
            for name, field in _ADDED.items()
        ),
        *(
            Case(name=f"AlterField, {name}", operation=_alter(*change))
            for name, change in _ALTERED.items()
        ),
        *(Case(name=name, operation=make) for name, make in _FIELDS.items()),
        *(Case(name=name, operation=make) for name, make in _INDEXES.items()),
        *(Case(name=name, operation=make) for name, make in _EXTENSIONS.items()),
        *(
            # TRUNCATE gives an empty table a new, empty file, which is not measured here.
            Case(
                name=f"RunSQL, {name}",
                operation=_sql(sql),
                fills=(True,) if name.startswith("truncate") else (False, True),
            )
            for name, sql in _RUN_SQL.items()
        ),
        Case(
            name="RemoveConstraint, check",
            before=lambda: [m.AddConstraint("item", _check())],
            operation=lambda: m.RemoveConstraint("item", "item_counts"),
        ),
        Case(
            name="RemoveConstraint, unique",
            before=lambda: [m.AddConstraint("item", _unique(fields=["name"]))],
            operation=lambda: m.RemoveConstraint("item", "item_once"),
        ),
        Case(
            name="ValidateConstraint",
            before=lambda: [AddConstraintNotValid("item", _check())],
            operation=lambda: ValidateConstraint("item", "item_counts"),
        ),
        Case(
            name="AlterField, to not null, proven",
            before=lambda: [m.AddConstraint("item", _not_null())],
            operation=lambda: m.AlterField("item", "note", models.TextField()),
        ),
        Case(
            name="AlterField, to not null, check not valid",
            before=lambda: [AddConstraintNotValid("item", _not_null())],
            operation=lambda: m.AlterField("item", "note", models.TextField()),
        ),
        Case(
            name="AlterField, widen, with a check",
            before=lambda: [
                m.AddConstraint(
                    "item", models.CheckConstraint(condition=~Q(name=""), name="item_named")
                )
            ],
            operation=lambda: m.AlterField("item", "name", models.CharField(max_length=70)),
        ),
        Case(
            name="AlterField, widen, with an index on an expression",
            before=lambda: [
                m.AddIndex("item", models.Index(Upper("name"), name="item_upper"))
            ],
            operation=lambda: m.AlterField("item", "name", models.CharField(max_length=70)),
        ),
        Case(
            name="AlterIndexTogether's successor, two columns",
            operation=lambda: m.AddIndex(
                "item", models.Index(fields=["owner", "name"], name="item_two")
            ),
        ),
        Case(
            name="RemoveCollation",
            before=lambda: [CreateCollation("german", provider="icu", locale="de-DE")],
            operation=lambda: RemoveCollation("german", provider="icu", locale="de-DE"),
        ),
        Case(
            name="RemoveField, back again",
            operation=lambda: m.RemoveField("item", "note"),
            backwards=True,
        ),
        Case(
            name="AddField, foreign key, back again",
            operation=_add(_ADDED["foreign key, null"]),
            backwards=True,
        ),
        Case(
            name="CreateModel, back again",
            operation=_MODELS["CreateModel, foreign key"],
            backwards=True,
        ),
        Case(
            name="DeleteModel, back again",
            operation=_MODELS["DeleteModel, a child"],
            backwards=True,
        ),
        Case(
            name="AddIndexConcurrently",
            operation=lambda: AddIndexConcurrently("item", _BY_NAME.clone()),
            concurrently=True,
        ),
        Case(
            name="RemoveIndexConcurrently",
            operation=lambda: RemoveIndexConcurrently("item", "item_made"),
            concurrently=True,
        ),
    ]
    if django.VERSION >= (6, 0):
        found.append(
            Case(
                name="AlterConstraint",
                before=lambda: [m.AddConstraint("item", _check())],
                operation=lambda: m.AlterConstraint(
                    "item",
                    "item_counts",
                    models.CheckConstraint(
                        condition=Q(quantity__gte=0),
                        name="item_counts",
                        violation_error_message="no",
                    ),
                ),
            )
        )
    return found
