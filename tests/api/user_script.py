"""What a host's engineer writes; read by a type checker, never run."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

import loopbackup as lb
from loopbackup import gdpr, policy


def items() -> Iterator[lb.Item]:
    """Give one item as bytes and one that is read only when it is needed."""
    yield lb.Item("mail/1", data=b"hello", version="1", subject="user-42")
    yield lb.Item("mail/2", data=lambda: b"hello", subject=("acme", "user-42"))


def back_up(url: str) -> str:
    """Use the verbs as their documentation shows them."""
    key = lb.Passphrase.from_env("ACME_VAULT")
    job = lb.Actor("svc-backup", roles={"job"}, purpose="nightly backup")
    with lb.Vault.open(url, key, actor=job) as vault:
        snapshot = vault.backup(items(), name="mail", tags={"env": "prod"})
        vault.backup("/srv/app", subject=lb.subject_from_path("users/{subject}/**"))
        vault.restore(snapshot, "/restore", include=["mail/*"], overwrite="never")
        since = datetime(2026, 1, 1, tzinfo=UTC)
        newest: list[lb.Snapshot] = vault.snapshots(name="mail", since=since)
        sizes: dict[str, int] = {entry.path: entry.size_bytes for entry in newest[0].ls("mail")}
        return f"{snapshot.id}: {sum(sizes.values())} bytes"


def look(vault: lb.Vault, subject: lb.Subject, cancel: lb.Cancel) -> list[str]:
    """Find things again, and stop when somebody says so."""
    newest, older, *_ = vault.snapshots()
    changes: list[str] = [what for change in newest.diff(older).changes for what in change.what]
    for folder, folders, others in newest.walk("users"):
        print(folder, len(folders), sum(entry.size_bytes for entry in others))
    for version in vault.versions("users/42/cv.pdf", name="app"):
        print(version.snapshot.id, version.entry.modified_at, version.count)
    held: lb.Holdings = vault.holdings(subject)
    print(held.first_seen, held.stored_bytes, vault.info().stored_bytes)
    vault.restore(newest, "/restore", progress=lambda p: print(p.seconds_left), cancel=cancel)
    return changes


def keep(vault: lb.Vault, snapshot: lb.Snapshot, subject: lb.Subject) -> str:
    """Set marks, and see what they do."""
    review_at = datetime(2027, 1, 1, tzinfo=UTC)
    hold: lb.Hold = vault.hold(subject, reason="case 17", review_at=review_at)
    vault.hold(paths=["users/42/**"], reason="case 18", review_at=review_at)
    try:
        vault.forget(snapshot, reason="old")
    except lb.HoldActive as refused:
        print(refused.hold, [hold.review_at for hold in vault.holds])
    vault.release(hold, reason="closed")
    vault.ledger.append("overlay", {"path": "a", "replacement": b"x"}, subject=subject)
    vault.ledger.append("register.requests", b"opaque")
    overlays: tuple[lb.Overlay, ...] = vault.holdings(subject).overlays
    print([overlay.raw_path for overlay in overlays], snapshot.entry("a").overlay)
    return vault.ledger.append("restriction", {"reason": "disputed"}, subject=subject)


def govern(url: str) -> policy.PolicyDecision:
    """Bind a vault by rules, look at what they would do, and do what is due."""
    rules = policy.Policy(
        policy.Residency(allow="EEA"),
        policy.Retention(keep_daily=7, keep_monthly="all", erase_after="P7Y"),
        policy.Access({"erase": {"dpo"}}, others={"job"}, requires={"erase": 2}),
    )
    with lb.Vault.create(url, lb.Passphrase("p"), location="SE", policy=rules) as vault:
        plan: lb.RetentionPlan = vault.plan_retention(requests=[("acme", "42")])
        print(plan, [fate.not_after for fate in plan.keep], vault.apply(plan).forgotten)
        vault.set_policy(policy.loads(rules.dumps()), reason="as before")
        print(rules.simulate(vault.history()).refused, rules.lint(), vault.policy)
        done: lb.Maintained = lb.maintain(vault)
        print(done.ok, [duty.name for duty in done.duties], done.next_due_at.isoformat())
    facts = policy.Facts(actor=lb.Actor("a", country="SE", approved_by=[lb.Actor("b")]))
    return rules.decide(policy.Action.ERASE, facts, at=datetime(2026, 1, 1, tzinfo=UTC))


def answer(vault: lb.Vault, day: date) -> gdpr.Request:
    """Take a request from receipt to decision, and look at the registers."""
    registers = gdpr.Registers(vault, controller=gdpr.Party("Acme AB", country="SE"))
    request = registers.requests.receive(
        ("acme", "42"), kind="erase", received_on=day, channel="email"
    )
    request = registers.requests.verify_identity(request, method="login")
    parties: list[gdpr.Party] = registers.parties.list(country="SE")
    changed: gdpr.Party = registers.parties.change(parties[0], email="dpo@acme.example")
    hold: lb.Hold = registers.holds.place(("acme", "42"), matter="case 17", review_on=day)
    registers.holds.release(hold, reason="closed")
    entries = vault.ledger.entries(cursor=lb.Cursor())
    print(request.due_on, request.state, changed.version, vault.actor.id, next(entries).kind)
    return registers.requests.accept(request.id, ground="A17-1-b")


def handle(url: str) -> None:
    """Look at the attributes that errors carry."""
    try:
        back_up(url)
    except lb.IncompleteBackup as incomplete:
        print(incomplete.kind, len(incomplete.problems))
    except lb.StoreError as failed:
        print("again later" if failed.transient else failed.kind)


def misuse(vault: lb.Vault, snapshot: lb.Snapshot) -> None:
    """Make mistakes that a type checker has to find; an ignore without one is an error itself."""
    lb.Vualt  # type: ignore[attr-defined]  # noqa: B018
    vault.backup(42)  # type: ignore[arg-type]
    vault.restore(snapshot, "/restore", overwrite="maybe")  # type: ignore[arg-type]
    vault.forget(snapshot)  # type: ignore[call-arg]
    vault.check(True)  # type: ignore[call-arg]
    vault.hold("user-42", reason="case 17")  # type: ignore[call-arg]
    vault.ledger.append("overlay", "text")  # type: ignore[arg-type]
    vault.restore(snapshot, "/restore", progress=5)  # type: ignore[arg-type]
    vault.restore(snapshot, "/restore", cancel=True)  # type: ignore[arg-type]
    lb.Item("a", b"x")  # type: ignore[call-arg]
    policy.Retention(7)  # type: ignore[call-arg]
    policy.Policy("EEA")  # type: ignore[arg-type]
    vault.set_policy(policy.Policy())  # type: ignore[call-arg]
    gdpr.Party("Acme AB")  # type: ignore[call-arg]
    gdpr.Registers(vault).parties.add(gdpr.Recipient("all"))  # type: ignore[arg-type]
    snapshot.nmae  # type: ignore[attr-defined]  # noqa: B018
