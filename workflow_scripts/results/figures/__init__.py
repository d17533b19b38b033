"""Figure kinds: one module each, with a function draw(metrics, **options) -> Figure.

Options shared by several kinds:
    by            column shown by markers or lines within a panel, e.g. learning_rate
    column        column that varies between panels; panels wrap
    row           column that varies between rows of panels
    over          column or columns such as seed: show means with Student's intervals
    asr_below     ASR threshold, a fraction, of bands, rings and selections
    accuracy, asr columns of accuracies and ASRs (top1, asr_top1)
    order         order of the values of `by` in the legend; fixes their looks if some are absent
    labels        custom labels of columns and values
    share_y       use the same y scale in all panels
    width         width of the figure in inches
    panel_height  height of a panel in inches; None: depends on the number of panels

The config is validated against the annotations of draw() (see _options.py), also for kinds in your
own files. SHOWS_CLEANED = True in a module declares that the kind needs cleaned models.
"""
