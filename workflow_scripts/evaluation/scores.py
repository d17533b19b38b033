"""Results of an evaluation: counts of images, and the fractions derived from them."""

from dataclasses import dataclass

TOP = (1, 3, 5, 10)


@dataclass(frozen=True)
class PartScores:
    """Integer counts of the images that one part of an attack is evaluated on.

    ``success[k]`` of ``images`` have the class wanted by the attack among the k nearest;
    ``recognised`` of them are classified as their true class, None if that is unknown.
    """

    images: int
    success: dict[int, int]
    recognised: int | None


@dataclass(frozen=True)
class Scores:
    """Integer counts over the whole evaluation set, and their fractions.

    ``accuracy[k]`` of ``images`` clean images have their class among the k nearest. ``parts`` has
    one entry per part of the attack; a part with a trigger is evaluated on triggered images whose
    true class is not its target.

    Ties are resolved against the wanted class, so the order of classes does not matter; the result
    of ``tied`` images depends on this for some k. Classes with the same name are merged, because a
    zero-shot classifier cannot distinguish them.
    """

    images: int
    accuracy: dict[int, int]
    parts: tuple[PartScores, ...]
    tied: int

    def fractions(self) -> dict[str, float]:
        """Return top1..., asr_top1... and triggered_top1 (recovery) in 0..1.

        For an attack with several parts, the ASRs are the maxima and triggered_top1 is the minimum
        over the parts, because a defence has to withstand all of them. In addition, asr_top1_mean
        is the mean over the parts, and asr_top1_part1 etc. are the ASRs of the parts.
        triggered_top1 is missing if no part has it.
        """
        rates = [{k: n / part.images for k, n in part.success.items()} for part in self.parts]
        found = {f"top{k}": n / self.images for k, n in self.accuracy.items()}
        found |= {f"asr_top{k}": max(rate[k] for rate in rates) for k in TOP}
        recognised = [p.recognised / p.images for p in self.parts if p.recognised is not None]
        if recognised:
            found["triggered_top1"] = min(recognised)
        if len(rates) > 1:
            found["asr_top1_mean"] = sum(rate[1] for rate in rates) / len(rates)
            found |= {f"asr_top1_part{n}": rate[1] for n, rate in enumerate(rates, 1)}
        return found
