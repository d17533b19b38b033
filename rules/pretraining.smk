# Inputs: a poisoned manifest with its token arrays, an evaluation set.
# Outputs: a backdoored CLIP model and its metrics at each epoch.


rule pretraining:
    input:
        lambda w: FILES.of_training(w.id),
        before=lambda w: FILES.earlier_model(w.id),
    output:
        model="<results>/pretraining/{id}/model.pt",
        optimizer="<results>/pretraining/{id}/optimizer.pt",
        metrics="<results>/pretraining/{id}/metrics.csv",
        timings="<results>/pretraining/{id}/timings.csv",
        provenance="<results>/pretraining/{id}/run.json",
    log:
        "<logs>/pretraining/{id}.log",
    benchmark:
        "<benchmarks>/pretraining/{id}.jsonl"
    threads: THREADS["pretraining"]
    resources:
        **NEEDS["pretraining"],
    params:
        spec=f"{WRITTEN}/specs/pretraining/{{id}}.json",
        folder=subpath(output.model, parent=True),
        # The epoch whose model is taken (by default the last one), and other epochs to keep.
        take=[],
        also=lambda w: arguments("pretraining", w.id),
    shell:
        "python -m workflow_scripts.common.gpus --count {resources.processes} --"
        " python -m workflow_scripts.training.train --spec {params.spec:q}"
        " --output {params.folder:q} --nodes {resources.nodes} --processes {resources.processes}"
        " --cores {threads} {params.take:q} {params.also:q} > {log:q} 2>&1"


# Trains up to the epoch that is cleaned, and keeps the state that is needed to resume.
use rule pretraining as pretraining_taken with:
    input:
        lambda w: FILES.of_training(w.id),
        before=lambda w: FILES.earlier_model(f"{w.id}/{w.taken}"),
        reference=lambda w: FILES.reference_of(f"{w.id}/{w.taken}"),
    output:
        model="<results>/pretraining/{id}/{taken}/model.pt",
        optimizer="<results>/pretraining/{id}/{taken}/optimizer.pt",
        metrics="<results>/pretraining/{id}/{taken}/metrics.csv",
        timings="<results>/pretraining/{id}/{taken}/timings.csv",
        provenance="<results>/pretraining/{id}/{taken}/run.json",
    log:
        "<logs>/pretraining/{id}/{taken}.log",
    benchmark:
        "<benchmarks>/pretraining/{id}/{taken}.jsonl"
    params:
        spec=f"{WRITTEN}/specs/pretraining/{{id}}.json",
        folder=subpath(output.model, ancestor=2),
        take=lambda w, input: FILES.take_options(f"{w.id}/{w.taken}", input.get("reference")),
        also=lambda w: arguments("pretraining", w.id),
