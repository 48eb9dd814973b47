"""datasketch's MinHash and LSH on texts: called with a JSON file of texts, threshold, permutations, shingle and seed.

The last line is one JSON object: by way, seconds and for each text the index of the one that it repeats, or its own.
`verified` takes the first candidate whose exact Jaccard similarity reaches the threshold, as aasut does, `plain` the
first candidate. A text of fewer than `short` characters is compared as a whole.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from datasketch import MinHash, MinHashLSH


def shingles(text: str, size: int) -> set[str]:
    return {text[i : i + size] for i in range(len(text) - size + 1)}


def stand_for(asked: dict[str, Any], verify: bool) -> list[int]:
    texts, size, threshold = asked["texts"], asked["shingle"], asked["threshold"]
    lsh = MinHashLSH(threshold=threshold, num_perm=asked["permutations"])
    batches = ([shingle.encode() for shingle in shingles(text, size)] for text in texts)
    exact: dict[str, int] = {}
    found = []
    for number, minhash in enumerate(MinHash.generator(batches, num_perm=asked["permutations"], seed=asked["seed"])):
        text = texts[number]
        stands = exact.get(text, number)
        if stands == number and len(text) >= asked["short"]:
            own = shingles(text, size)
            for near in sorted(lsh.query(minhash)):
                other = shingles(texts[near], size) if verify else own
                if len(own & other) >= threshold * len(own | other):
                    stands = near
                    break
            else:
                lsh.insert(number, minhash)
        exact[text] = stands
        found.append(stands)
    return found


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    result = {}
    for way in ("verified", "plain"):
        started = time.perf_counter()
        found = stand_for(asked, way == "verified")
        result[way] = {"seconds": time.perf_counter() - started, "stands_for": found}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
