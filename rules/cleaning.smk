# Needs: a backdoored model, a clean split with its token arrays, an evaluation set.
# Makes: a fine-tuned model and its metrics, epoch by epoch; one small job for each run. Where a
#        defence has a labeller, also the pseudo-labels of the split's images.


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


rule pseudo_labels:
    input:
        lambda w: FILES.of_labelling(w.id),
    output:
        "<results>/labels/{id}/labels.npy",
    log:
        "<logs>/pseudo_labels/{id}.log",
    benchmark:
        "<benchmarks>/pseudo_labels/{id}.jsonl"
    conda:
        "../envs/pipeline.yaml"
    threads: THREADS["pseudo_labels"]
    resources:
        **NEEDS["pseudo_labels"],
    params:
        arguments=lambda w: arguments("pseudo_labels", w.id),
    shell:
        "python -m workflow_scripts.common.gpus --count {resources.gpu} --"
        " python -m workflow_scripts.artefacts.label {params.arguments:q} --threads {threads}"
        " --output {output:q} > {log:q} 2>&1"
