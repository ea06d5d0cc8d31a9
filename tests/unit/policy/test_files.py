"""Policies as files: nothing is lost, and what is wrong is told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import loopbackup as lb
from loopbackup import policy

TEXT = """\
# Rules of Acme AB
version = 1

[[rule]]
kind = "residency"   # the customers were told so
allow = "EEA"

[[rule]]
kind = "access"
others = ["job", "admin"]

[rule.grants]
backup = ["job"]
"restore" = ["support"]

[[rule]]
kind = "retention"
where = { name = "accounts", "tag:env" = "prod" }
keep_at_least = "P7Y"
ground = "bokföringslagen 7 kap. 2 §"
keep_monthly = "all"
"""


def test_policy_is_read_as_it_is_written(tmp_path: Path) -> None:
    """The same rules as in Python, and a file that is written back as it was."""
    (tmp_path / "policy.toml").write_text(TEXT, "utf-8")

    found = policy.load(tmp_path / "policy.toml")

    assert found == policy.loads(TEXT)
    assert found == policy.Policy(
        policy.Residency(allow="EEA"),
        policy.Access({"backup": {"job"}, "restore": {"support"}}, others={"job", "admin"}),
        policy.Retention(
            where={"name": "accounts", "tag:env": "prod"},
            keep_at_least="P7Y",
            ground="bokföringslagen 7 kap. 2 §",
            keep_monthly="all",
        ),
    )
    assert found.dumps() == TEXT
    assert policy.loads(policy.dumps(found)) == found


names = st.text(min_size=1, max_size=8).filter(lambda text: text.isprintable())


@given(
    st.builds(
        policy.Retention,
        where=st.dictionaries(st.sampled_from(["name", "category", "tag:a b"]), names, max_size=2),
        keep_last=st.integers(0, 5) | st.just("all"),
        keep_daily=st.integers(1, 400) | st.sampled_from(["all", "P30D", "P1Y2M"]),
        keep_tags=st.dictionaries(names, names, max_size=2),
        keep_names=st.sets(names, max_size=2),
        timezone=st.sampled_from(["UTC", "Europe/Stockholm"]),
        group_by=st.sets(st.sampled_from(["name", "category", "tag:a"])),
        id=names,
    ),
    st.booleans(),
)
def test_nothing_is_lost_on_the_way_to_text_and_back(rule: policy.Retention, strict: bool) -> None:
    """Whatever the values are."""
    made = policy.Policy(rule, strict=strict)

    assert policy.loads(policy.dumps(made)) == made
    assert policy.loads(policy.dumps(made)).rules == (rule,)


def test_regions_of_a_host_stand_in_the_policy() -> None:
    """Whoever opens the vault knows them without any file beside it."""
    row = policy.Region("acme", "sto-1", ["SE"], city="Stockholm")
    made = policy.Policy(policy.Residency(allow="SE"), tables=policy.tables().with_regions(row))

    again = policy.loads(policy.dumps(made))

    assert again == made
    assert again.tables.find("sto-1") == row
    assert made != policy.Policy(*made.rules)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version = ", "policy: "),
        ("version = 1\nstrict = true\nstrict = false\n", "line 3: Cannot overwrite"),
        ("[[rule]]\nkind = 'access'\n", "line 1: a policy begins with version = 1"),
        ("version = 2\n", "line 1: a policy begins with version = 1"),
        ("version = 1\n\n# why\nstrict = 'yes'\n", "line 4: strict"),
        ("version = 1\nrules = []\n", "line 2: 'rules' is nothing"),
        ("version = 1\nrule = 5\n", "line 2: each rule is written as"),
        ("version = 1\n[[rule]]\nallow = 'EEA'\n", "line 2: a rule has a kind"),
        (TEXT.replace('allow = "EEA"', 'alow = "EEA"'), "line 6: .* has no 'alow'"),
        (TEXT.replace('"P7Y"', '"7 years"'), "line 19: keep_at_least is a duration"),
        (TEXT.replace('"all"', "-1"), "line 21: keep_monthly"),
        (TEXT.replace('"restore"', '"restor"'), "line 12: .* did you mean 'restore'"),
        ("version = 1\n[[rule]]\nkind = 'residency'\n", "line 2: .* needs 'allow'"),
        ("version = 1\n[[rule]]\nkind = 'residency'\nallow = [\n 'EEA',\n 5]\n", "line 4: "),
        ("version = 1\n[[region]]\nprovider = 'acme'\n", "line 2: no region"),
        (
            "version = 1\n[[region]]\nprovider='a'\nregion='b'\ncountries=['Sweden']\n",
            "line 2: .* two capital letters",
        ),
        ("version = 1\n" + "a = " + "[" * 5000, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, message: str) -> None:
    """And with what would be right."""
    with pytest.raises(lb.InputError, match=message):
        policy.loads(text)


def test_rule_that_is_not_installed_is_told_apart() -> None:
    """The file may be right; it is this host that lacks something."""
    with pytest.raises(lb.PolicyError, match="line 2: rules of the kind 'coppa'") as caught:
        policy.loads("version = 1\n[[rule]]\nkind = 'coppa'\n")

    assert caught.value.kind == "not_installed"


def test_rule_of_another_version_is_told() -> None:
    """It could judge otherwise."""
    with pytest.raises(lb.PolicyError, match="of version 1 here") as caught:
        policy.loads('version = 1\n[[rule]]\nkind = "residency"\nversion = "2"\nallow = "EU"\n')

    assert caught.value.kind == "not_installed"


def test_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """No such file, no text, too long."""
    with pytest.raises(lb.InputError, match="No such file"):
        policy.load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"version = 1\n\xff\n")
    with pytest.raises(lb.InputError, match=r"binary\.toml, line 2: this is no UTF-8"):
        policy.load(tmp_path / "binary.toml")
    (tmp_path / "long.toml").write_text("#" * (2 << 20))
    with pytest.raises(lb.InputError, match="at most"):
        policy.load(tmp_path / "long.toml")
    with pytest.raises(lb.InputError, match="from text"):
        policy.loads(b"version = 1")  # type: ignore[arg-type]


def test_tables_of_ones_own_cannot_be_written() -> None:
    """Rows can; a vault would be judged by other tables than those that were meant."""
    found = policy.tables()
    mine = policy.Tables(found.regions[:50], {"EU": []}, version="1", as_of=found.as_of)
    made = policy.Policy(policy.Access({}), tables=mine)

    with pytest.raises(lb.InputError, match="no tables"):
        made.dumps()
