"""Tests that secrets are masked everywhere and that other text is unchanged."""

from __future__ import annotations

import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from migration_route.core.redaction import clipped, redact
from migration_route.core.secret_patterns import MASK, Redactor

SECRETS = st.text(string.ascii_letters + string.digits + "-_.", min_size=8, max_size=30)


@pytest.mark.parametrize(
    "text",
    [
        "postgres://user:{}@db.example/app",
        "could not reach redis://:{}@cache:6379/0 in time",
        "mysql+pymysql://u:{}@h/d?x=1",
        "Authorization: Bearer {}",
        "authorization: basic {}",
        "password={}",
        "password='{}' host=db",
        'PASSWORD: "{}"',
        "DB_PASSWORD => {}",
        '{{"api_key": "{}", "user": "ada"}}',
        "{{'secret': '{}'}}",
        "?token={}&page=2",
        "SECRET_KEY = '{}'",
        "aws_secret_access_key={};",
        "private-key: {}",
    ],
)
@given(secret=SECRETS)
def test_a_secret_is_masked_where_it_is_named(text, secret):
    """In a URL, a header, a setting or JSON, the secret is removed and the rest stays."""
    unquoted = text.replace("'{}'", "{}").replace('"{}"', "{}")  # removed as well
    assert redact(text.format(secret)) in {text.format(MASK), unquoted.format(MASK)}


@given(SECRETS.filter(lambda secret: "0" not in secret))
def test_a_known_secret_is_masked_anywhere(secret):
    """A secret from the settings is masked even inside a word."""
    assert redact(f"00{secret}00", secrets=[secret]) == f"00{MASK}00"


@pytest.mark.parametrize(
    "text",
    [
        "mrt_" + "a" * 43,
        "ghp_" + "a" * 36,
        "glpat-" + "a" * 20,
        "AKIA" + "A" * 16,
        "xoxb-" + "1" * 12,
        "eyJ" + "a" * 20 + ".eyJ" + "b" * 20 + "." + "c" * 20,
    ],
)
def test_a_token_is_known_by_its_makers_mark(text):
    """A token that stands alone in a line is masked too."""
    assert redact(f"got {text} from the vault") == f"got {MASK} from the vault"


@pytest.mark.parametrize(
    "text",
    [
        '{"password": "before\\"after"}',
        "{'token': 'before\\'after'}",
        "postgres://user:before@after@db.example/app",
    ],
)
def test_the_whole_secret_is_masked(text):
    """A quote or an at sign inside a secret does not expose its end."""
    assert "after" not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Applying shop.0002_price... OK",
        'ALTER TABLE "auth_user" ADD COLUMN "password" varchar(128) NOT NULL',
        "CREATE INDEX token_idx ON token (id)",
        "https://example.org/a:b/c@d",
        "12 rows in 3.5 s, see http://localhost:8000/migrations/",
        "Add field secret to vault",
        "Basic usage, bearer of news",
        "user@example.org: hello",
        "the key is in the lock",
    ],
)
def test_ordinary_text_is_untouched(text):
    assert redact(text) == text


@given(st.text())
def test_masking_twice_is_masking_once(text):
    assert redact(redact(text)) == redact(text)


@given(st.text(alphabet=st.characters(exclude_characters=":=>@"), max_size=60))
def test_text_without_an_assignment_or_an_address_keeps_its_length(text):
    """Without an assignment or a URL, only tokens with a known prefix are masked."""
    if MASK not in redact(text):
        assert redact(text) == text


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE ROLE app LOGIN PASSWORD '{}'",
        "ALTER USER app WITH ENCRYPTED PASSWORD E'{}' VALID UNTIL 'infinity'",
        "alter role app password $${}$$",
        "CREATE USER MAPPING FOR app SERVER far OPTIONS (user 'app', password '{}')",
        "CREATE USER app@'%' IDENTIFIED BY '{}'",
        'CREATE USER app IDENTIFIED BY "{}" REQUIRE SSL',
        "CREATE USER app IDENTIFIED WITH caching_sha2_password BY '{}'",
        "CREATE USER app IDENTIFIED VIA ed25519 USING PASSWORD('{}')",
        "GRANT ALL ON x.* TO app IDENTIFIED BY PASSWORD '{}'",
        "SET PASSWORD FOR 'app'@'%' = PASSWORD('{}')",
        "SET PASSWORD = '{}'",
        "CREATE SUBSCRIPTION s CONNECTION 'host=h password={} user=u' PUBLICATION p",
        "INSERT INTO config VALUES ('postgres://app:{}@db/app')",
        "UPDATE auth_user SET password = '{}' WHERE id = 1",
        "UPDATE auth_user SET \"password\" = '{}' WHERE id = 1",
        "CREATE ROLE app PASSWORD '{}",
    ],
)
@given(secret=SECRETS)
def test_a_password_in_sql_is_masked(statement, secret):
    """As PostgreSQL, MySQL and MariaDB write it, also where the string is truncated."""
    assume(secret not in statement)  # the word "password" itself stays
    found = redact(statement.format(secret), secrets=[])
    assert secret not in found
    assert found.startswith(statement.partition("{}")[0].rstrip("'\"$E "))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- b", "a b"),
        ("a -----BEGIN PRIVATE KEY-----\\nMIIE\\n-----END PRIVATE KEY----- b", "a b"),
        ("a -----BEGIN OPENSSH PRIVATE KEY-----\nMIIE", "a"),
        ("pbkdf2_sha256$600000$salt$aGFzaA==", ""),
        ("(1, 'ada', 'argon2$argon2id$v=19$m=1024$aGFzaA')", "ada"),
        ("$2b$12$abcdefghijklmnopqrstuv", ""),
        ("SCRAM-SHA-256$4096:c2FsdA==$aGFzaA==:aGFzaA==", ""),
        ("https://0123456789abcdef0123456789abcdef@sentry.example/1", "sentry.example/1"),
        ("redis://:pa/ss@cache:6379/0", "cache:6379/0"),
        ('{"connection": "{\\"password\\": \\"aGFzaA\\"}"}', "connection"),
    ],
)
def test_keys_and_hashes_are_known_by_their_form(text, shown):
    """PEM blocks, password hashes, and tokens in URLs."""
    found = redact(text, secrets=[])
    assert MASK in found
    for secret in ("MII", "aGFzaA", "abcdefghij", "0123456789", "pa/ss"):
        assert secret not in found
    assert all(word in found for word in shown.split())


@pytest.mark.filterwarnings("ignore:.*Migrate to MAILERS", "ignore:Overriding setting")
def test_the_secrets_of_the_settings_are_masked(settings):
    """At any depth, by their keys, and in other notations of the same value."""
    settings.SECRET_KEY_FALLBACKS = ["an-older-secret-key", "the-oldest-secret-key"]
    settings.EMAIL_HOST_PASSWORD = "mail-pass"
    settings.STRIPE_API_KEY = "sk_live_51Abcdefgh"
    settings.JWT_PRIVATE_KEY = (
        "-----BEGIN KEY-----\nTUlJRXZRSUJBREFOQmdr\n-----END KEY-----"
    )
    settings.SOCIAL = {"providers": [{"client_secret": "s0cial-s3cret", "id": "public-id"}]}
    settings.SIGNATURE_BYTES = b"signature-of-bytes"
    settings.DATABASES = {
        **settings.DATABASES,
        "far": {
            "ENGINE": "django.db.backends.mysql",
            "USER": "app-user",
            "PASSWORD": 'it\'s "far" & away',
            "OPTIONS": {"passwd": "option-passwd", "ssl": {"key_password": "deep-passwd"}},
            "TEST": {"PASSWORD": "test-passwd"},
        },
    }
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "KEY_PREFIX": "shop-of-ada",
            "OPTIONS": {"PASSWORD": "cache-passwd"},
        }
    }
    settings.MIGRATION_ROUTE = {
        "WEBHOOKS": [{"url": "https://chat.example/hooks/T0/B0", "secret": "s" * 20}]
    }
    planted = [
        settings.SECRET_KEY,
        *settings.SECRET_KEY_FALLBACKS,
        "mail-pass",
        "sk_live_51Abcdefgh",
        "TUlJRXZRSUJBREFOQmdr",
        "s0cial-s3cret",
        "signature-of-bytes",
        'it\'s "far" & away',
        repr('it\'s "far" & away'),
        "it''s \"far\" & away",
        "it%27s%20%22far%22%20%26%20away",
        'it\'s \\"far\\" & away',
        "option-passwd",
        "deep-passwd",
        "test-passwd",
        "cache-passwd",
        "https://chat.example/hooks/T0/B0",
        "s" * 20,
    ]
    for secret in planted:
        assert secret not in redact(f"x{secret}x"), secret
    for word in ("public-id", "app-user", "shop-of-ada", "django.core.cache", "default"):
        assert redact(f"x{word}x") == f"x{word}x"
    settings.EMAIL_HOST_PASSWORD = "another-pass"
    assert "another-pass" not in redact("another-pass")  # current format
    assert redact("mail-pass") == "mail-pass"


@given(st.integers(0, 60), st.integers(0, 60))
def test_a_secret_on_a_cut_is_masked_whole(before, behind):
    """No part of it remains at the end of the kept text, nor at the start of a tail."""
    redactor = Redactor(["swordfish"])
    for secret in ("swordfish", "password=herrings"):
        text = f"{'-' * before} {secret} {'-' * behind}{'+' * 10_000}"
        shown = redactor.clipped(text, 40)
        middle = redactor.middle_clipped(f"{text}{text[::-1]} {secret} {'-' * behind}", 80)
        for part in ("swordf", "fish", "herr", "rings"):
            assert part not in shown
            assert part not in middle


def test_what_is_kept_says_how_much_is_left_out():
    """The text can be stored by every database."""
    assert clipped("a" * 50, 20) == f"{'a' * 20}… (30 characters left out)"
    assert clipped("\udc80\0", 20) == "\\udc80\ufffd"
    assert clipped("short", 20) == "short"
