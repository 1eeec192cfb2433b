"""The package of variants: its modules are the files of the top-level folder variants/, and of folders that a user adds."""

from sae_bench_htopk.plugins import folder

__path__ = [folder("variants")]
