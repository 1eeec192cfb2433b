"""The package of metrics: its modules are the files of the top-level folder metrics/, and of folders that a user adds."""

from sae_bench_htopk.plugins import folder

__path__ = [folder("metrics")]
