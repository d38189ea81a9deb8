"""Advice in sentences: each is a function of numbers that stand beside it."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kdsim._types import Record, RecordView
from kdsim.answers.advice import Advice
from kdsim.answers.cores import first_not_worth, saved_shares
from kdsim.answers.thresholds import EQUAL, NUDGE, WORTH
from kdsim.results.gaps import NO_GAP


@dataclass(frozen=True)
class Sentence:
    """One answer.

    Attributes
    ----------
    topic : str
        One of `TOPICS`.
    form : str
        Which of `FORMS`.
    numbers : mapping
        Everything that the text was made from; see `FORMS`.
    """

    topic: str
    form: str
    numbers: RecordView

    @property
    def text(self) -> str:
        """The sentence."""
        return _Words().format(FORMS[self.form], **self.numbers)

    def to_dict(self) -> Record:
        """Return plain data."""
        return {
            "topic": self.topic,
            "form": self.form,
            "text": self.text,
            "numbers": dict(self.numbers),
        }


class _Words(string.Formatter):
    """Format numbers as the sentences need them: ``5.3 %``, ``1 core``, a capital at the start."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec in ("cores", "runs"):
            return f"{value:,} {format_spec[:-1] if value == 1 else format_spec}"
        if format_spec == "capital":
            return str(value)[:1].upper() + str(value)[1:]
        if format_spec.endswith("%"):
            digits = int(format_spec.rpartition(".")[2][:-1])
            percent = round(100.0 * value, digits) + 0.0  # no minus before a zero
            return f"{percent:{format_spec[:-1]}f} %"
        return str(super().format_field(value, format_spec))


#: Headings of the topics, in the order in which an analyst asks.
TOPICS = {
    "stakes": "Does it matter",
    "cores": "How many cores",
    "link": "Which link",
    "policy": "Which policy",
    "sensitivity": "What it depends on",
    "unknown": "What is not known",
}

#: How each answer is worded; the fields are its numbers.
FORMS = {
    "cores-worth": "Up to {cores:cores}, each core is worth it: the last one saves {saved_s:.3g} s "
    "({saved:.1%} of the makespan). The next would save {next_s:.3g} s ({next:.1%}), less than "
    "{worth:.0%}.",
    "cores-all": "Every core up to {cores}, the most that was tried, is worth it: the last one "
    "saves {saved_s:.3g} s ({saved:.1%} of the makespan, more than {worth:.0%}).",
    "cores-one": "One core is enough: a second would save {next_s:.3g} s ({next:.1%}), less than "
    "{worth:.0%}.",
    "cores-only": "The curves are known on {cores:cores} only; nothing can be said of other "
    "counts.",
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
    "link-idle": "That holds for cores that stay idle while they wait for data (link.starved: "
    "idle); with shared, computation uses their time.",
    "policy": "Ship {policy}{meaning}: its mean gap to the {bound_kind} is at most {gap:.2%}, at "
    "noise of {levels} ({n:runs} each). It is the simplest policy within {equal:.0%} of the best.",
    "policy-next-slower": "The next one, {next}, takes {seconds:.3g} s longer at noise of "
    "{noise:.0%} ({interval}), {share:.2%} of the makespan.",
    "policy-next-faster": "{next} is faster by {seconds:.3g} s at noise of {noise:.0%} "
    "({interval}), {share:.2%} of the makespan, but {policy} is simpler.",
    "policy-next-equal": "The next one, {next}, takes the same time at every noise tried.",
    "cores-draws": "The same answer, {cores:cores}, comes out in {same:.1%} of {draws} draws of "
    "the curves; 95 % of the draws say {low:.0f} to {high:.0f} cores.",
    "cores-draws-one": "The same answer, {cores:cores}, comes out in {same:.1%} of {draws} draws "
    "of the curves.",
    "cores-draws-all": "All {draws} draws of the curves give the same answer, {cores:cores}.",
    "policy-draws": "{policy} is faster than {next} in {faster:.1%} of {draws} draws of the curves "
    "(without noise; ties, {ties:.1%} of the draws, count half), and within {equal:.0%} of the "
    "best candidate in {within:.1%}.",
    "policy-draws-no-ties": "{policy} is faster than {next} in {faster:.1%} of {draws} draws of "
    "the curves (without noise), and within {equal:.0%} of the best candidate in {within:.1%}.",
    "policy-draws-equal": "{policy} and {next} take the same time in each of {draws} draws of the "
    "curves (without noise); {policy} is within {equal:.0%} of the best candidate in "
    "{within:.1%} of them.",
    "unknown-draws": "The curves are uncertain by {low:+.1%} to {high:+.1%} of the makespan: "
    "95 % of {draws} bootstrap draws, {sides} drawn.",
    "sensitivity": "The makespan depends most on {field}: {nudge:.0%} less or more of it changes "
    "the makespan by {down:+.1%} and {up:+.1%}.",
    "sensitivity-next": "Then on {field} ({down:+.1%} and {up:+.1%}).",
    "stakes": "{sentence}",
    "stakes-no-link": "Where no link limits the data: {sentence}",
    "unknown": "{what:capital}.",
}


def sentences(advice: Advice) -> list[Sentence]:
    """Put advice into sentences, in the order in which an analyst asks."""
    form = "stakes-no-link" if advice.stakes.link_utilisation is None else "stakes"
    found = [Sentence("stakes", form, {"sentence": advice.stakes.sentence})]
    found += _cores(advice)
    found += _link(advice)
    found += _policy(advice)
    for form, row in zip(("sensitivity", "sensitivity-next"), advice.sensitivity, strict=False):
        numbers = {"field": row["field"], "down": row["down"], "up": row["up"], "nudge": NUDGE}
        found.append(Sentence("sensitivity", form, numbers))
    found += _over_draws(advice)
    found += [Sentence("unknown", "unknown", {"what": what}) for what in advice.unknown]
    return found


def by_topic(advice: Advice) -> Iterator[tuple[str, list[Sentence]]]:
    """Yield each topic's heading and its sentences, topics without any left out."""
    found = sentences(advice)
    for topic, heading in TOPICS.items():
        own = [sentence for sentence in found if sentence.topic == topic]
        if own:
            yield heading, own


def _over_draws(advice: Advice) -> Iterator[Sentence]:
    """Say of the answers on cores and policy in how many draws of the curves they hold."""
    if not advice.curves:
        return
    drawn = {"draws": advice.curves["draws"]}
    if advice.curves["cores"]:
        found = advice.curves["cores"]
        alike = "-all" if found["same"] == 1.0 else "-one" if found["low"] == found["high"] else ""
        numbers = {key: found[key] for key in ("cores", "same", "low", "high")}
        yield Sentence("cores", f"cores-draws{alike}", {**drawn, **numbers})
    if advice.curves["policy"]:
        ties = advice.curves["policy"]["ties"]
        form = "policy-draws" + ("-equal" if ties == 1.0 else "" if ties else "-no-ties")
        yield Sentence("policy", form, {**drawn, **advice.curves["policy"], "equal": EQUAL})
    low, high = (advice.curves[end] / advice.makespan - 1.0 for end in ("low_s", "high_s"))
    numbers = {**drawn, "low": low, "high": high, "sides": " and ".join(advice.curves["sides"])}
    yield Sentence("unknown", "unknown-draws", numbers)


def advice_data(advice: Advice) -> Record:
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
    worth: Record = {"worth": WORTH}
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
        return
    if first == 0:
        yield Sentence("link", "link-always", numbers)
    else:
        yield Sentence("link", "link-matters", {**numbers, "slow": rows[first]["rate"]})
    if rows[most]["starved"] == "idle":
        yield Sentence("link", "link-idle", {})


def _policy(advice: Advice) -> Iterator[Sentence]:
    against = advice.against
    own = [row for row in advice.policies if row["policy"] == against["policy"]]
    levels = ", ".join(f"{100 * row['noise']:g}" for row in own) + " %"
    yield Sentence(
        "policy",
        "policy",
        {
            "policy": against["policy"],
            "meaning": _meaning(against["policy"]),
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
    longer = against["difference_s"]
    side = "equal" if abs(longer) <= NO_GAP * mean else "slower" if longer > 0 else "faster"
    numbers = {
        "policy": against["policy"], "next": against["next"], "noise": against["noise"],
        "seconds": abs(longer), "share": abs(longer) / mean, "interval": _interval(against),
    }  # fmt: skip
    yield Sentence("policy", f"policy-next-{side}", numbers)


def _interval(against: RecordView) -> str:
    """Say how sure the difference is, its ends in the order of the seconds named."""
    if against["method"] == "exact":
        return "exact"
    sign = -1.0 if against["difference_s"] < 0 else 1.0
    low, high = sorted((sign * against["low_s"], sign * against["high_s"]))
    return f"95 % interval {low:.3g} to {high:.3g} s, {against['n']} paired runs"


def _meaning(policy: str) -> str:
    """Say what a constant split is; the other policies go by their names."""
    kind, _, cores = policy.partition(":")
    if kind != "static":
        return ""
    return f" ({'1 core' if cores == '1' else f'{cores} cores'} for communication, always)"
