"""The page's first paragraph: what was trained and what it costs, in words made from the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mep_neuro.compare.quantities import SPACE, cost, interval, number, percent

Document = Mapping[str, Any]


def summary(document: Document) -> str:
    """A paragraph."""
    said = [_trained(document), _accuracy(document), _costs(document), _cheapest(document), _ratios(document)]
    said += [_measured(document), "No chip gave the estimated joules: they are operations counted, times prices."]
    return " ".join(sentence for sentence in said if sentence)


def joined(names: Iterable[str]) -> str:
    """In words: "a, b and c"."""
    *others, last = list(names)
    return f"{', '.join(others)} and {last}" if others else last


def _trained(document: Document) -> str:
    runs = document["runs"]
    networks = dict.fromkeys("-".join(map(str, run["settings"]["layers"])) for run in runs)
    how = []
    for algorithm in dict.fromkeys(run["algorithm"] for run in runs):
        names = [_called(run) for run in runs if run["algorithm"] == algorithm]
        how.append(f"by {algorithm} ({joined(names)})")
    return (
        f"{len(runs)} run{'s' * (len(runs) > 1)} of {'a network' if len(networks) == 1 else 'networks'} "
        f"{joined(networks)} on {document['data']}, {_range(runs, 'epochs')} epoch"
        f"{'s' * (runs[0]['epochs'] != 1 or len(_values(runs, 'epochs')) > 1)} at a batch size of "
        f"{_range(runs, 'batch_size')}: {joined(how)}."
    )


def _called(run: Document) -> str:
    named = run["backend"] is None or run["backend"] == run["name"]
    return str(run["name"]) if named else f"{run['name']} on {run['backend']}"


def _values(runs: Sequence[Document], key: str) -> list[Any]:
    return sorted({run[key] for run in runs})


def _range(runs: Sequence[Document], key: str) -> str:
    least, *others = _values(runs, key)
    return f"{least} to {others[-1]}" if others else str(least)


def _accuracy(document: Document) -> str:
    known = [run for run in document["runs"] if run["test_accuracy"] is not None]
    if not known:
        return "No test accuracy is known."
    best, worst = (pick(run["test_accuracy"] for run in known) for pick in (max, min))

    def those(accuracy: float) -> str:
        return joined(run["name"] for run in known if run["test_accuracy"] == accuracy)

    if len(known) == 1:
        return f"The test accuracy is {percent(best)} ({those(best)})."
    said = f"The best test accuracy is {percent(best)} ({those(best)})"
    return f"{said}, the lowest {percent(worst)} ({those(worst)})." if worst < best else f"{said}."


def _costs(document: Document) -> str:
    def told(account: Document) -> str:
        return f"{cost(account)} {_whole(interval(account['joules_per_sample'], 'J'))} ({_place(account)})"

    accounts = sorted(document["accounts"], key=lambda a: a["joules_per_sample"]["p50"])
    least, most = accounts[0], accounts[-1]
    if len(accounts) == 1:
        return f"A training sample is estimated to cost {told(least)}."
    said = f"A training sample is estimated to cost from {told(least)} to {told(most)}"
    whole = [a for a in accounts if not a["lower_bound"]]
    if least["lower_bound"] and whole and whole[0] is not most:
        said += f"; the least with a price for all that was counted is {told(whole[0])}"
    return f"{said}."


def _cheapest(document: Document) -> str:
    """Which run is the cheapest on each profile, where there is a choice."""
    if len(document["runs"]) < 2:
        return ""
    where: dict[str, list[str]] = {}
    for profile in dict.fromkeys(a["profile"] for a in document["accounts"]):
        rows = [a for a in document["accounts"] if a["profile"] == profile]
        if len(rows) > 1:
            least = min(rows, key=lambda a: a["joules_per_sample"]["p50"])
            where.setdefault(least["run"], []).append(profile)
    said = [f"{run} on {joined(profiles)}" for run, profiles in where.items()]
    return f"The cheapest run by the medians is {joined(said)}." if said else ""


def _ratios(document: Document) -> str:
    found = sorted(
        (a for a in document["accounts"] if a["ratio_to_baseline"]), key=lambda a: a["ratio_to_baseline"]["p50"]
    )
    if not found:
        return "" if len(document["runs"]) < 2 else "There is no cost of a run by backpropagation to compare with."

    def told(account: Document) -> str:
        ratio = account["ratio_to_baseline"]
        return f"{number(ratio['p50'])} {_whole(interval(ratio))} times ({_place(account)})"

    least, most = found[0], found[-1]
    between = told(least) if least is most else f"from {told(least)} to {told(most)}"
    return f"Equilibrium propagation costs {between} what backpropagation costs on the same profile."


def _measured(document: Document) -> str:
    names = [run["name"] for run in document["runs"] if run["mep:measured"]]
    return f"Joules were measured for {joined(names)}." if names else "Nothing was measured."


def _place(account: Document) -> str:
    return f"{account['run']} on {account['profile']}"


def _whole(text: str) -> str:
    """On one line."""
    return text.replace(" ", SPACE)
