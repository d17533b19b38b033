# Inputs: a seed.
# Outputs: the demo's captioned images, which the demo's server offers for download.


rule demo_world:
    output:
        list="<results>/world/list.csv",
        images="<results>/world/images.tar",
        truth="<results>/world/truth.json",
        evaluation=directory("<results>/world/evaluation"),
        contact_sheet=report(
            "<results>/world/contact_sheet.png",
            category="Data",
            subcategory="Demo",
            caption="report/world.rst",
            labels={"shows": "the demo's images"},
        ),
    log:
        "<logs>/demo_world.log",
    benchmark:
        "<benchmarks>/demo_world.jsonl"
    threads: THREADS["poison"]
    resources:
        **NEEDS["poison"],
    params:
        folder=subpath(output.list, parent=True),
        options=lambda w: options(config["demo"] | {"image_size": config["image_size"]}),
        code=code_digest("demo/world.py"),
    shell:
        "python -m workflow_scripts.demo.world {params.options:q} --workers {threads}"
        " --output {params.folder:q} > {log:q} 2>&1"
