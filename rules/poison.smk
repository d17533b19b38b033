# Inputs: the manifest of a subset.
# Outputs: the poisoned manifest with its triggered images, and the clean split for fine-tuning.


rule poison:
    input:
        manifest=lambda w: FILES.dataset_manifest(w.id),
        artefacts=lambda w: FILES.artefacts_of(PLAN.attacks[w.id]),
    output:
        manifest="<results>/attacks/{id}/manifest.parquet",
        images="<results>/attacks/{id}/images.tar",
        survival=report(
            "<results>/attacks/{id}/survival.csv",
            category="Data",
            subcategory="Poisoning",
            caption="report/survival.rst",
            labels={"shows": "survival of the triggers", "attack": "{id}"},
        ),
        contact_sheet=report(
            "<results>/attacks/{id}/contact_sheet.png",
            category="Data",
            # Puts the empty sheets of attacks without victims last.
            subcategory=lambda w: (
                "Poisoning" if PLAN.attacks[w.id].get("poisoned", 1) else "Without victims"
            ),
            caption="report/contact_sheet.rst",
            labels={"shows": "original and triggered images", "attack": "{id}"},
        ),
    log:
        "<logs>/poison/{id}.log",
    benchmark:
        "<benchmarks>/poison/{id}.jsonl"
    threads: THREADS["poison"]
    resources:
        **NEEDS["poison"],
    params:
        spec=f"{WRITTEN}/specs/attacks/{{id}}.json",
        root=subpath(output.manifest, ancestor=3),
        folder=subpath(output.manifest, parent=True),
        # Editing a trigger or a choice of victims repeats everything that depends on it.
        code=lambda w: digest(attack_code(PLAN.attacks[w.id])),
    shell:
        "python -m workflow_scripts.poison.poison --attack {params.spec:q}"
        " --manifest {input.manifest:q} --root {params.root:q}"
        " --output {params.folder:q} --workers {threads} > {log:q} 2>&1"


rule clean_split:
    input:
        poisoned=lambda w: f"<results>/attacks/{PLAN.splits[w.id]['attack_id']}/manifest.parquet",
        manifest=lambda w: FILES.dataset_manifest(PLAN.splits[w.id]["attack_id"]),
    output:
        manifest="<results>/splits/{id}/manifest.parquet",
        report="<results>/splits/{id}/report.json",
    log:
        "<logs>/clean_split/{id}.log",
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        options=lambda w: options({k: v for k, v in PLAN.splits[w.id].items() if k != "attack_id"}),
    shell:
        "python -m workflow_scripts.poison.clean_split --manifest {input.manifest:q}"
        " --poisoned-manifest {input.poisoned:q} {params.options:q} --output {output.manifest:q}"
        " > {log:q} 2>&1"
