"""Kinds of figures: a module each, with a function draw(metrics, **options) -> Figure.

What the options mean that several kinds have:
    by            what markers or lines of a panel tell apart: any column, e.g. learning_rate
    column        what the panels differ in; they wrap into lines
    row           what lines of panels differ in
    over          a column such as seed, or several: means over it, and Student's intervals
    asr_below     the low ASR, a fraction, that bands, rings and choices are about
    accuracy, asr the columns of accuracies and ASRs (top1, asr_top1)
    order         values of `by` in the legend's order; each keeps its look where one is missing
    labels        your words for columns and values
    share_y       all panels have the same scale
    width         inches of the figure
    panel_height  inches of a panel; None takes one that suits their number

The config is checked by the annotations of draw() (see _options.py), those of a kind of your own
included. SHOWS_CLEANED = True in a module says that the kind needs cleaned models.
"""
