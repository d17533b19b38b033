# Inputs: a backdoored model, a clean split with its token arrays, an evaluation set.
# Outputs: a fine-tuned model and its metrics at each epoch, one small job per run; pseudo-labels of the
#          split's images if a defence has a labeller.


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
    threads: THREADS["pseudo_labels"]
    resources:
        **NEEDS["pseudo_labels"],
    params:
        arguments=lambda w: arguments("pseudo_labels", w.id),
    shell:
        "python -m workflow_scripts.common.gpus --count {resources.gpu} --"
        " python -m workflow_scripts.artefacts.label {params.arguments:q} --threads {threads}"
        " --output {output:q} > {log:q} 2>&1"
