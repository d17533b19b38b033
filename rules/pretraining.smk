# Needs: a poisoned manifest with its token arrays, an evaluation set.
# Makes: a backdoored CLIP model and its metrics, epoch by epoch.


rule pretraining:
    input:
        training_inputs,
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
    conda:
        "../envs/pipeline.yaml"
    threads: THREADS["pretraining"]
    resources:
        **NEEDS["pretraining"],
    params:
        spec=f"{WRITTEN}/specs/pretraining/{{id}}.json",
        folder=subpath(output.model, parent=True),
    shell:
        "python -m workflow_scripts.training.gpus --count {resources.processes} --"
        " python -m workflow_scripts.training.train --spec {params.spec:q}"
        " --output {params.folder:q} --nodes {resources.nodes} --processes {resources.processes}"
        " --cores {threads} > {log:q} 2>&1"
