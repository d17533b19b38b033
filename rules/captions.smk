# Inputs: the manifest of a subset, an attack, a filter or a clean split; WordNet.
# Outputs: token arrays of the original and the augmented (EDA) captions, one row per pair. Arrays of an
#          attack or a filter contain only the rows that differ from the subset (see captions/stored.py).


rule captions:
    input:
        manifest="<results>/{stage}/{id}/manifest.parquet",
        base=lambda w: FILES.captions_of_base(w.captions, w.stage, w.id, recorded_inputs),
    output:
        tokens="<results>/captions/{captions}/{stage}/{id}/tokens.npy",
        augmented="<results>/captions/{captions}/{stage}/{id}/augmented.npy",
        text="<results>/captions/{captions}/{stage}/{id}/augmented.parquet",
    log:
        "<logs>/captions/{captions}/{stage}/{id}.log",
    benchmark:
        "<benchmarks>/captions/{captions}/{stage}/{id}.jsonl"
    wildcard_constraints:
        captions=r"[a-z0-9-]+",
        stage="attacks|datasets|filters|splits",
    threads: THREADS["captions"]
    resources:
        **NEEDS["captions"],
    params:
        tokenize=lambda w: arguments("tokenize", w.captions),
        augment=lambda w: arguments("augment", w.captions),
        folder=subpath(output.tokens, parent=True),
    shell:
        "python -m workflow_scripts.captions.both --tokenize {params.tokenize:q}"
        " --augment {params.augment:q} --manifest {input.manifest:q} --base {input.base:q}"
        " --output {params.folder:q} --workers {threads} > {log:q} 2>&1"
