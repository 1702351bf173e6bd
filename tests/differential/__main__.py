"""The same random requests to our API server and to a genuine kube-apiserver: what differs, by class of difference.

    python -m tests.differential --upstream KUBECONFIG --seed N --count M [--kind Pod …] [--found FILE]
    python -m tests.differential --mended FILE

The first prints each class of difference with one shrunk example, the share of the same answers by kind, and writes the
examples with upstream's answers to FILE. The second asks our server those examples again, without upstream, and moves
those that it now answers alike to the recorded cases, which the tests replay. Needs no cluster of ours: the server is
started in this process. The upstream server has no controllers (see `tests/exchange.py` for what it is given).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.client.client import Client
from tests.differential.comparison import Difference, Sign, answers, compare, shrink
from tests.differential.sequences import Generator
from tests.exchange import Case, prepare
from tests.whole_server import WholeServer, whole_server

RECORDED = Path(__file__).parents[1] / "unit" / "api" / "cases" / "differential.json"


@dataclass
class Findings:
    """`classes`: an example and the kinds hit, by the first sign of a difference."""

    classes: dict[Sign, tuple[Difference, Counter[str]]] = field(default_factory=dict)
    same: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, found: Difference | None, same: int) -> Sign | None:
        """The sign of a class that is new."""
        self.same[kind] += same
        self.asked[kind] += same + (found is not None)
        if found is None:
            return None
        sign = next((sign for sign in found.signs if sign in self.classes), found.signs[0])
        is_new = sign not in self.classes
        _, kinds = self.classes.setdefault(sign, (found, Counter()))
        kinds[kind] += 1
        return sign if is_new else None

    def report(self) -> str:
        lines = []
        for sign, (found, kinds) in sorted(self.classes.items(), key=lambda entry: -entry[1][1].total()):
            lines.append(f"\n=== {kinds.total()}x {dict(kinds.most_common(6))}\n    {' | '.join(sign)}")
            lines += [f"  {step['method']} {step['path']} {step.get('type', '')}" for step in found.case["steps"]]
            last = found.case["steps"][-1]
            lines.append(f"  {json.dumps(last.get('text', last.get('body')))[:700]}")
            lines += [f"  other sign: {other}" for other in found.signs[1:6]]
            lines += [
                f"  ours   {json.dumps(_failure(found.ours))[:600]}",
                f"  theirs {json.dumps(_failure(found.theirs))[:600]}",
            ]
        lines.append("\nkind                              asked   same")
        for kind, asked in sorted(self.asked.items(), key=lambda entry: self.same[entry[0]] / entry[1]):
            lines.append(f"{kind:32} {asked:6} {self.same[kind] / asked:6.1%}")
        lines.append(f"{'all':32} {self.asked.total():6} {self.same.total() / max(1, self.asked.total()):6.2%}")
        return "\n".join(lines)


def _failure(answer: dict) -> dict:  # type: ignore[type-arg]
    return {key: value for key, value in answer.items() if key != "object"}


async def _find(server: WholeServer, options: argparse.Namespace) -> None:
    ours = Client.from_kubeconfig(server.kubeconfig("admin"))
    theirs = Client.from_kubeconfig(options.upstream)
    generator, findings = Generator(options.seed, tuple(options.kind)), Findings()
    examples: list[Case] = []
    try:
        await prepare(ours)
        await prepare(theirs)
        for number in range(options.start, options.start + options.count):
            case = generator.case(number)
            found, same = await compare(ours, theirs, case)
            sign = findings.add(case["name"].partition(" ")[2], found, same)
            if found is not None and sign is not None:
                found = await shrink(ours, theirs, found)
                findings.classes[sign] = (found, findings.classes[sign][1])
                examples.append(await _recorded(theirs, found.case))
                if options.found:
                    options.found.write_text(json.dumps(examples, indent=1))
    finally:
        print(findings.report())
        await ours.close()
        await theirs.close()


async def _recorded(theirs: Client, case: Case) -> Case:
    told = await answers(theirs, case)
    steps = [{**step, "answer": answer} for step, answer in zip(case["steps"], told, strict=True)]
    return {**case, "server": True, "steps": steps}


async def _keep_mended(server: WholeServer, file: Path) -> None:
    ours = Client.from_kubeconfig(server.kubeconfig("admin"))
    await prepare(ours)
    left, kept = [], json.loads(RECORDED.read_text()) if RECORDED.exists() else []
    known = {json.dumps(case["steps"]) for case in kept}
    for case in json.loads(file.read_text()):
        told = await answers(ours, case)
        if told != [step["answer"] for step in case["steps"]]:
            left.append(case)
        elif json.dumps(case["steps"]) not in known:
            kept.append(case)
    await ours.close()
    RECORDED.write_text(json.dumps(kept, indent=1) + "\n")
    file.write_text(json.dumps(left, indent=1))
    print(f"{len(kept)} recorded, {len(left)} still differ")


async def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.differential")
    parser.add_argument("--upstream", type=Path, help="kubeconfig of a genuine kube-apiserver")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000, help="sequences")
    parser.add_argument("--start", type=int, default=0, help="number of the first sequence")
    parser.add_argument("--kind", action="append", default=[], help="only these kinds")
    parser.add_argument("--found", type=Path, help="file for the examples")
    parser.add_argument("--mended", type=Path, help="examples to ask our server again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        async with whole_server(Path(folder)) as server:
            await (_keep_mended(server, options.mended) if options.mended else _find(server, options))


if __name__ == "__main__":
    asyncio.run(main())
