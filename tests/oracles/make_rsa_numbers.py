"""Writes rsa_numbers.json: what rsatoolbox 0.3.2 says of the rows of rsa_rows.py. It is no dependency of ours; to make the file anew,

python -m venv oracle && oracle/bin/pip install rsatoolbox==0.3.2 && oracle/bin/python tests/oracles/make_rsa_numbers.py
"""

import json
from pathlib import Path

from rsa_rows import CASES, two
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm, compare

numbers = {}
for case in CASES:
    one, other = (calc_rdm(Dataset(rows), method="correlation") for rows in two(case))
    numbers[case] = {ours: float(compare(one, other, method=theirs)[0, 0]) for ours, theirs in (("rsa", "corr"), ("rsa_spearman", "spearman"))}
Path(__file__).with_name("rsa_numbers.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
