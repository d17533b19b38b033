# Needs: a finished model; an evaluation set, a clean split, as far as the measure uses them.
# Makes: the numbers that one measure gives for one model. No run depends on them.


rule measure:
    input:
        lambda w: FILES.of_measure(w.measure),
        model="<results>/{model}/model.pt",
    output:
        "<results>/measures/{model}/{measure}.csv",
    log:
        "<logs>/measure/{model}/{measure}.log",
    benchmark:
        "<benchmarks>/measure/{model}/{measure}.jsonl"
    wildcard_constraints:
        model=r"(cleaning|pretraining)/[A-Za-z0-9_.+-]+(/(epoch-\d+|best_accuracy|matches-[0-9a-f]{8}))?",
        measure=one_of(PLAN.measures),
    conda:
        "../envs/pipeline.yaml"
    threads: THREADS["measure"]
    resources:
        **NEEDS["measure"],
    params:
        run=lambda w: spec_of_run(WRITTEN, w.model),
        spec=f"{WRITTEN}/specs/measures/{{measure}}.json",
        # An edited measure is taken again; an edit of what it imports from elsewhere repeats none.
        code=lambda w: digest(variant_code("measure", PLAN.measures[w.measure]["measure"])),
    shell:
        "python -m workflow_scripts.common.gpus --count {resources.gpu} --"
        " python -m workflow_scripts.evaluation.measure --spec {params.run:q}"
        " --checkpoint {input.model:q} --measure {params.spec:q} --cores {threads}"
        " --output {output:q} > {log:q} 2>&1"


rule declared_measures:
    output:
        "<results>/workflow/measures/{experiment}-{digest}.csv",
    log:
        "<logs>/declared_measures/{experiment}-{digest}.log",
    localrule: True
    conda:
        "../envs/pipeline.yaml"
    params:
        # Written by `onstart`, because a command line has room for some hundred rows only.
        table=f"{WRITTEN}/arguments/measures/{{experiment}}-{{digest}}.csv",
    shell:
        "cp {params.table:q} {output:q} 2> {log:q}"
