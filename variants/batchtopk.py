"""BatchTopK (Bussmann et al. 2024, arXiv:2412.06410): the batch shares one budget of k latents per vector on average."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk import ops
from sae_bench_htopk.contract import Selector, Step, Variant


class BatchTopK(Variant):
    """The batch * k largest latents of a batch in training, one calibrated threshold in use."""

    @dataclass(frozen=True)
    class Config:
        """Settings that training sees."""

        k: int

    @classmethod
    def native(cls, config: Config) -> Selector:
        """A batch is no property of a vector, so in use one threshold stands in for the batch's choice."""
        return "threshold"

    @classmethod
    def has_ema(cls, config: Config) -> bool:
        """Training keeps the running threshold of dictionary_learning too, to compare with the calibrated one."""
        return True

    def step(self, x: Float[Tensor, "batch d"]) -> Step:
        """Chooses batch * k latents over the whole batch and weighs each row's whole set."""
        return self.loss_of(x, self.chosen(x, self.config.k, "batch"), lambda codes: ops.last_prefix(codes.offsets))
