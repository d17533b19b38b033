"""What the page of an audit says in words, for readers who do not know the methods."""

from typing import Any

PARTS = {
    "known": "The attack that was named",
    "scan": "Known kinds of triggers, tried one after another",
    "inversion": "A search for the smallest change that leads to each class",
    "decree": "A search for a change that makes all images alike (DECREE)",
    "captions": "The same search for frequent captions",
    "rows": "Training pairs that stand out",
}

SCORES = {
    "accuracy": "Zero-shot accuracy",
    "accuracy_top3": "Accuracy, top 3",
    "accuracy_top5": "Accuracy, top 5",
    "accuracy_top10": "Accuracy, top 10",
    "asr": "ASR: triggered images of other classes taken for the target",
    "asr_top3": "ASR, top 3",
    "asr_top5": "ASR, top 5",
    "asr_top10": "ASR, top 10",
    "asr_all_images": "ASR if the target's own images count too",
    "asr_not_true_class": "Triggered images not taken for their true class",
    "recovery": "Recovery: triggered images taken for their true class",
    **{
        f"{kind}_{k}{end}": f"{name}, top {k}{what}"
        for kind, name in (
            ("image_to_text", "Retrieval, captions of an image"),
            ("text_to_image", "Retrieval, images of a caption"),
            ("target_caption", "Triggered images that find a caption of the target"),
        )
        for k in (1, 5, 10)
        for end, what in (("", ""), ("_clean", ", without the trigger"))
    },
    "target_without_trigger": "The same images without the trigger, taken for the target",
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
    # A part, and what it speaks against.
    "told": [
        ("known", "the named attack, with exactly this trigger and target, still working"),
        (
            "scan",
            "a trigger of a common kind (a patch, stripes, blended noise, a filter) that sends "
            "images to one of the classes of the evaluation set",
        ),
        (
            "inversion",
            "a trigger that is the same on every image, or nearly so, and covers a small part of "
            "it, with one of these classes as its target",
        ),
        ("decree", "a small patch that overrides everything else in an image"),
        ("captions", "a frequent caption that has become a trigger by itself"),
        ("rows", "many training pairs with the same unusual image content"),
    ],
    # What is not ruled out, unless the part is done; None is never ruled out.
    "untold": [
        (
            None,
            "a trigger that differs from image to image, covers the whole image faintly, or was "
            "made to withstand such searches",
        ),
        (None, "a target that is not among the classes tried, such as a name or a phrase"),
        (None, "an attack on a few particular images, or on texts"),
        (None, "a model that became harmful otherwise, for example biased"),
        ("known", "attacks whose trigger is known to you but was not named here"),
        ("captions", "frequent captions that act as triggers, as no training list was given"),
        ("rows", "poisoned training pairs, as none were given"),
    ],
    "without_control": (
        "a false alarm: some classes are easy to reach in any model. Give a clean model of the "
        "same kind as a control."
    ),
    "use": (
        "The audit is evidence, not a certificate. Where a model matters, train it from data whose "
        "origin is known, or clean it and audit it again."
    ),
}
