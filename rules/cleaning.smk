# Needs: a backdoored model, a clean split with its token arrays, an evaluation set.
# Makes: a fine-tuned model and its metrics, epoch by epoch; one small job for each run.


use rule pretraining as cleaning with:
    input:
        training_inputs,
        spec=ancient("<results>/cleaning/{id}/spec.json"),
    output:
        model="<results>/cleaning/{id}/model.pt",
        # Nothing goes on from a cleaned model, and a state of RN50 takes 0.8 GB.
        optimizer=temp("<results>/cleaning/{id}/optimizer.pt"),
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
        folder=subpath(output.model, parent=True),
