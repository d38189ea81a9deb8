"""Advice in sentences: each is a function of numbers that stand beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kdsim.answers.advice import EQUAL, NUDGE, Advice
from kdsim.answers.cores import WORTH, first_not_worth, saved_shares


@dataclass(frozen=True)
class Sentence:
    """One answer.

    Attributes
    ----------
    topic : str
        ``"cores"``, ``"link"``, ``"policy"``, ``"sensitivity"``, ``"stakes"`` or ``"unknown"``.
    text : str
    numbers : mapping
        Everything that the text was made from; see `FORMS`.
    """

    topic: str
    form: str
    numbers: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The sentence."""
        return FORMS[self.form].format(**self.numbers)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "topic": self.topic,
            "form": self.form,
            "text": self.text,
            "numbers": dict(self.numbers),
        }


#: How each answer is worded; the fields are its numbers.
FORMS = {
    "cores-worth": "Up to {cores} cores, each core is worth it: the last one saves {saved_s:.3g} s "
    "({saved:.1%} of the makespan). The next would save {next_s:.3g} s ({next:.1%}), less than "
    "{worth:.0%}.",
    "cores-all": "Every core up to {cores}, the most that was tried, is worth it: the last one "
    "saves {saved_s:.3g} s ({saved:.1%} of the makespan, more than {worth:.0%}).",
    "cores-one": "One core is enough: a second would save {next_s:.3g} s ({next:.1%}), less than "
    "{worth:.0%}.",
    "cores-only": "Only {cores} cores are known of this device; nothing can be said of others.",
    "link-gains": "A link faster than {enough:.4g} data units per second gains less than "
    "{equal:.0%}: the fastest schedule takes {at_enough_s:.4g} s there, and {unlimited_s:.4g} s "
    "without any limit.",
    "link-matters": "Below {slow:.4g} data units per second all policies are within {equal:.0%} "
    "of each other; the choice matters most at {most_rate:.4g}, where {worst_policy} takes "
    "{spread:.1%} longer than {best_policy}.",
    "link-always": "At every link rate tried ({low:.4g} to {high:.4g} data units per second) the "
    "choice of the policy matters; most at {most_rate:.4g}, where {worst_policy} takes "
    "{spread:.1%} longer than {best_policy}.",
    "link-never": "At no link rate tried ({low:.4g} to {high:.4g} data units per second) do "
    "policies differ by more than {equal:.0%}.",
    "policy": "Ship {policy}: at worst {gap:.2%} above the {bound_kind} over noise of {levels} "
    "({n} runs each), the simplest policy within {equal:.0%} of the best.",
    "policy-next": "The next one, {next}, takes {difference_s:+.3g} s [{low_s:+.3g}, "
    "{high_s:+.3g}] longer at noise {noise:.0%} (paired, n = {n}), {share:+.2%} of the makespan.",
    "cores-draws": "Over {draws} draws of the curves the same answer, {cores}, comes out in "
    "{same:.1%}; 95 % of the draws say {low:.0f} to {high:.0f} cores.",
    "policy-draws": "{policy} is faster than {next} in {faster:.1%} of {draws} draws of the curves "
    "(without noise; ties, {ties:.1%} of the draws, count half), and within {equal:.0%} of the "
    "best candidate in {within:.1%}.",
    "policy-draws-equal": "{policy} and {next} take the same time in each of {draws} draws of the "
    "curves (without noise); {policy} is within {equal:.0%} of the best candidate in "
    "{within:.1%} of them.",
    "unknown-draws": "The curves are uncertain by {low:+.1%} to {high:+.1%} of the makespan: "
    "95 % of {draws} bootstrap draws, {sides} drawn.",
    "sensitivity": "The answer depends most on {field}: {nudge:.0%} less or more moves the "
    "makespan by {down:+.1%} and {up:+.1%}.",
    "sensitivity-next": "Then on {field} ({down:+.1%} and {up:+.1%}).",
    "stakes": "{sentence}",
    "unknown": "Not known: {what}.",
}


def sentences(advice: Advice) -> list[Sentence]:
    """Put advice into sentences, in the order in which an analyst asks."""
    found = [Sentence("stakes", "stakes", {"sentence": advice.stakes.sentence})]
    found += _cores(advice)
    found += _link(advice)
    found += _policy(advice)
    for form, row in zip(("sensitivity", "sensitivity-next"), advice.sensitivity, strict=False):
        numbers = {"field": row["field"], "down": row["down"], "up": row["up"], "nudge": NUDGE}
        found.append(Sentence("sensitivity", form, numbers))
    found += _over_draws(advice)
    found += [Sentence("unknown", "unknown", {"what": what}) for what in advice.unknown]
    return found


def _over_draws(advice: Advice) -> Iterator[Sentence]:
    """Say of the answers on cores and policy in how many draws of the curves they hold."""
    if not advice.curves:
        return
    drawn = {"draws": advice.curves["draws"]}
    if advice.curves["cores"]:
        yield Sentence("cores", "cores-draws", {**drawn, **advice.curves["cores"]})
    if advice.curves["policy"]:
        form = "policy-draws-equal" if advice.curves["policy"]["ties"] == 1.0 else "policy-draws"
        yield Sentence("policy", form, {**drawn, **advice.curves["policy"], "equal": EQUAL})
    low, high = (advice.curves[end] / advice.makespan - 1.0 for end in ("low_s", "high_s"))
    numbers = {**drawn, "low": low, "high": high, "sides": " and ".join(advice.curves["sides"])}
    yield Sentence("unknown", "unknown-draws", numbers)


def advice_data(advice: Advice) -> dict[str, Any]:
    """Return an advice as plain data with its sentences, as ``kdsim advise --json`` prints it."""
    return {
        "scenario": advice.scenario.name,
        "makespan": advice.makespan,
        "bound_kind": advice.bound_kind,
        "cores": list(advice.cores),
        "link": list(advice.link),
        "policies": list(advice.policies),
        "against": dict(advice.against),
        "sensitivity": list(advice.sensitivity),
        "stakes": advice.stakes.to_dict(),
        "unknown": list(advice.unknown),
        "curve_draws": dict(advice.curves) or None,
        "sentences": [sentence.to_dict() for sentence in sentences(advice)],
    }


def _cores(advice: Advice) -> Iterator[Sentence]:
    rows = list(advice.cores)
    if len(rows) < 2:
        yield Sentence("cores", "cores-only", {"cores": rows[0]["cores"] if rows else 0})
        return
    shares, poor = saved_shares(rows), first_not_worth(rows)
    worth: dict[str, Any] = {"worth": WORTH}
    if poor is None:
        last = {"cores": rows[-1]["cores"], "saved_s": rows[-1]["saved_s"], "saved": shares[-1]}
        yield Sentence("cores", "cores-all", {**last, **worth})
        return
    after = {"next_s": rows[poor + 1]["saved_s"], "next": shares[poor]}
    if poor == 0:
        yield Sentence("cores", "cores-one", {**after, **worth})
        return
    last = {
        "cores": rows[poor]["cores"],
        "saved_s": rows[poor]["saved_s"],
        "saved": shares[poor - 1],
    }
    yield Sentence("cores", "cores-worth", {**last, **after, **worth})


def _link(advice: Advice) -> Iterator[Sentence]:
    rows = list(advice.link)
    if not rows:
        return
    unlimited = rows[-1]["bound"]
    enough = next(row for row in rows if row["bound"] <= unlimited * (1 + EQUAL))
    yield Sentence(
        "link",
        "link-gains",
        {
            "enough": enough["rate"],
            "at_enough_s": enough["bound"],
            "unlimited_s": unlimited,
            "equal": EQUAL,
        },
    )
    spreads = [row["worst"] / row["best"] - 1.0 for row in rows]
    most = max(range(len(rows)), key=spreads.__getitem__)
    numbers = {
        "low": rows[0]["rate"], "high": rows[-1]["rate"], "most_rate": rows[most]["rate"],
        "worst_policy": rows[most]["worst_policy"], "best_policy": rows[most]["best_policy"],
        "spread": spreads[most], "equal": EQUAL,
    }  # fmt: skip
    first = next((k for k, spread in enumerate(spreads) if spread > EQUAL), None)
    if first is None:
        yield Sentence("link", "link-never", numbers)
    elif first == 0:
        yield Sentence("link", "link-always", numbers)
    else:
        yield Sentence("link", "link-matters", {**numbers, "slow": rows[first]["rate"]})


def _policy(advice: Advice) -> Iterator[Sentence]:
    against = advice.against
    own = [row for row in advice.policies if row["policy"] == against["policy"]]
    levels = ", ".join(f"{100 * row['noise']:g}" for row in own) + " %"
    yield Sentence(
        "policy",
        "policy",
        {
            "policy": against["policy"],
            "gap": max(row["gap"] for row in own),
            "bound_kind": advice.bound_kind,
            "levels": levels,
            "n": max(row["n"] for row in own),
            "equal": EQUAL,
        },
    )
    if against["next"] == against["policy"]:
        return
    mean = next(row["mean"] for row in own if row["noise"] == against["noise"])
    keys = ("next", "difference_s", "low_s", "high_s", "noise", "n")
    numbers = {key: against[key] for key in keys}
    yield Sentence("policy", "policy-next", {**numbers, "share": against["difference_s"] / mean})
