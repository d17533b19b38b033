# Inputs: a backdoored model, a clean split with its token arrays, an evaluation set.
# Outputs: a fine-tuned model and its metrics at each epoch, one small job per run.


use rule pretraining as cleaning with:
    input:
        lambda w: FILES.of_training(w.id),
    output:
        model="<results>/cleaning/{id}/model.pt",
        metrics="<results>/cleaning/{id}/metrics.csv",
        timings="<results>/cleaning/{id}/timings.csv",
        provenance="<results>/cleaning/{id}/run.json",
    log:
        "<logs>/cleaning/{id}.log",
    benchmark:
        "<benchmarks>/cleaning/{id}.jsonl"
    threads: THREADS["cleaning"]
    resources:
        **NEEDS["cleaning"],
    params:
        spec=f"{WRITTEN}/specs/cleaning/{{id}}.json",
        folder=subpath(output.model, parent=True),
        take=[],
        also=[],
