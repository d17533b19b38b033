"""What an evaluation finds, as counts of images, and the fractions that tables have."""

from dataclasses import dataclass

TOP = (1, 3, 5, 10)


@dataclass(frozen=True)
class PartScores:
    """Integer counts of the images by which one part of an attack is measured.

    ``success[k]`` of ``images`` have the class that the attack wants among the k nearest;
    ``recognised`` of them have their true class first, None if that is not known.
    """

    images: int
    success: dict[int, int]
    recognised: int | None


@dataclass(frozen=True)
class Scores:
    """Integer counts over the whole evaluation set, and the fractions that they make.

    ``accuracy[k]`` of ``images`` clean images have their class among the k nearest. ``parts`` are
    those of the attack; a part with a trigger is measured by the triggered images whose true class
    is not its target.

    A class that is as near as another one counts as behind it, so that no order of classes decides;
    ``tied`` images would count otherwise for some k. Classes of the same name are one class: no
    zero-shot classifier can tell them apart.
    """

    images: int
    accuracy: dict[int, int]
    parts: tuple[PartScores, ...]
    tied: int

    def fractions(self) -> dict[str, float]:
        """Return top1..., asr_top1... and triggered_top1 in 0..1.

        Of an attack of several parts, the ASRs are the highest of the parts and triggered_top1 is
        the lowest: a defence has to hold against each. asr_top1_mean is the parts' mean, and
        asr_top1_part1 and so on are theirs. triggered_top1 is left out if no part has it.
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
