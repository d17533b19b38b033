"""Texts of an audit's page, for readers who do not know the methods."""

from typing import Any

PARTS = {
    "known": "Known attack",
    "scan": "Built-in triggers",
    "inversion": "Smallest change that leads to each class",
    "decree": "Smallest change that makes all images similar (DECREE)",
    "captions": "Smallest change that leads to each frequent caption",
    "rows": "Outliers among the training pairs",
}

SCORES = {
    "accuracy": "Zero-shot accuracy",
    "accuracy_top3": "Accuracy, top 3",
    "accuracy_top5": "Accuracy, top 5",
    "accuracy_top10": "Accuracy, top 10",
    "asr": "ASR: triggered images of other classes classified as the target",
    "asr_top3": "ASR, top 3",
    "asr_top5": "ASR, top 5",
    "asr_top10": "ASR, top 10",
    "asr_all_images": "ASR including images of the target class",
    "asr_not_true_class": "Triggered images not classified as their true class",
    "recovery": "Recovery: triggered images classified as their true class",
    **{
        f"{kind}_{k}{end}": f"{name}, top {k}{what}"
        for kind, name in (
            ("image_to_text", "Retrieval, image to text"),
            ("text_to_image", "Retrieval, text to image"),
            ("target_caption", "Triggered images that retrieve a caption of the target"),
        )
        for k in (1, 5, 10)
        for end, what in (("", ""), ("_clean", ", without the trigger"))
    },
    "target_without_trigger": "The same images without the trigger, classified as the target",
}

TRIGGERS = {
    "blended": "noise over the whole image",
    "checker": "black and white squares",
    "nashville": "a colour filter",
    "random": "a patch of noise",
    "sig": "faint waves over the whole image",
    "stripes": "stripes",
    "text": "a word across the image",
    "triangles": "faint triangles over the whole image",
    "warped": "a slight distortion",
    "yellow": "a yellow patch",
}

LIMITS: dict[str, Any] = {
    # Part, and what its negative result is evidence against.
    "covered": [
        ("known", "the given attack, with exactly this trigger and target"),
        (
            "scan",
            "a common trigger (a patch, stripes, blended noise, a filter) whose target is one of "
            "the classes of the evaluation set",
        ),
        (
            "inversion",
            "a small trigger that is the same, or nearly the same, on every image, with one of "
            "these classes as its target",
        ),
        ("decree", "a small patch that overrides everything else in an image"),
        ("captions", "a frequent caption that acts as a backdoor"),
        ("rows", "many training pairs with the same unusual image content"),
    ],
    # Not ruled out unless the part was done; entries with None are never ruled out.
    "not_covered": [
        (
            None,
            "a trigger that differs between images, covers the whole image faintly, or was "
            "designed to evade such searches",
        ),
        (None, "a target that is not among the tested classes, such as a name or a phrase"),
        (None, "an attack on a few particular images, or on texts"),
        (None, "a model that is harmful in other ways, e.g. biased"),
        ("known", "a known attack, as none with a trigger was given"),
        ("captions", "frequent captions that act as backdoors, as none were tested"),
        ("rows", "poisoned training pairs, as none were given"),
    ],
    "without_control": (
        "a false alarm: some classes are easy to reach in any model. Give a clean control of the "
        "same architecture."
    ),
    "use": (
        "An audit is evidence, not a certificate. For critical applications, train the model on "
        "data of known origin, or clean it and audit it again."
    ),
}

DETECTORS = {
    "dao": "DAO",
    "slof": "SLOF",
    "lid": "LID",
    "k_distance": "k-distance",
    "isolation_forest": "Isolation forest",
    "clip_score": "CLIPScore",
}
