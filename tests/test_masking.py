"""Is a secret masked wherever it stands, and ordinary text left alone?"""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migration_route.masking import MASK, masked

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
    """In an address, a header, a setting or JSON, the secret is gone and the rest stays."""
    unquoted = text.replace("'{}'", "{}").replace('"{}"', "{}")  # they go with it
    assert masked(text.format(secret)) in {text.format(MASK), unquoted.format(MASK)}


@given(SECRETS.filter(lambda secret: "0" not in secret))
def test_a_known_secret_is_masked_anywhere(secret):
    """What the settings call a secret is masked even in the middle of a word."""
    assert masked(f"00{secret}00", secrets=[secret]) == f"00{MASK}00"


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
    """A token that stands alone in a line is masked as well."""
    assert masked(f"got {text} from the vault") == f"got {MASK} from the vault"


@pytest.mark.parametrize(
    "text",
    [
        '{"password": "before\\"after"}',
        "{'token': 'before\\'after'}",
        "postgres://user:before@after@db.example/app",
    ],
)
def test_the_whole_secret_is_masked(text):
    """A quote or an at sign inside a secret does not let its end through."""
    assert "after" not in masked(text)


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
    """What is no secret can still be read."""
    assert masked(text) == text


@given(st.text())
def test_masking_twice_is_masking_once(text):
    """What is masked stays as it is."""
    assert masked(masked(text)) == masked(text)


@given(st.text(alphabet=st.characters(exclude_characters=":=>@"), max_size=60))
def test_text_without_an_assignment_or_an_address_keeps_its_length(text):
    """Where nothing is assigned and no address stands, only marked tokens are masked."""
    if MASK not in masked(text):
        assert masked(text) == text
