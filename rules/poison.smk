# Needs: a subset's manifest, class names.
# Makes: the poisoned manifest with its triggered images, and the clean split to fine-tune on.


rule poison:
    input:
        spec="<results>/attacks/{id}/spec.json",
        manifest=lambda w: f"<results>/datasets/{PLAN.attacks[w.id]['dataset']}/manifest.parquet",
        classes=f"<results>/evaluation/{config['evaluation']}/classes.json",
    output:
        manifest="<results>/attacks/{id}/manifest.parquet",
        images="<results>/attacks/{id}/images.tar",
        survival=report(
            "<results>/attacks/{id}/survival.csv",
            category="Data",
            subcategory="Poisoning",
            caption="report/survival.rst",
            labels={"attack": "{id}", "shows": "triggers after storing"},
        ),
        contact_sheet=report(
            "<results>/attacks/{id}/contact_sheet.png",
            category="Data",
            subcategory="Poisoning",
            caption="report/contact_sheet.rst",
            labels={"attack": "{id}", "shows": "originals and triggered"},
        ),
    log:
        "<logs>/poison/{id}.log",
    benchmark:
        "<benchmarks>/poison/{id}.jsonl"
    conda:
        "../envs/pipeline.yaml"
    threads: NEEDS["poison"]["threads"]
    resources:
        **NEEDS["poison"],
    params:
        root=ROOT,
        folder=lambda w: path("attacks", w.id),
        # An edited trigger re-does what stands on it.
        code=lambda w: code_digest(trigger_file(PLAN.attacks[w.id])),
    shell:
        "python -m workflow_scripts.poison.poison --attack {input.spec} --manifest {input.manifest}"
        " --classes {input.classes} --root {params.root} --output {params.folder}"
        " --workers {threads} > {log} 2>&1"
