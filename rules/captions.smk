# Needs: a manifest of a subset, an attack or a clean split; WordNet.
# Makes: token arrays of its captions, as they are and augmented (EDA), one row for each pair.


rule captions:
    input:
        manifest="<results>/{stage}/{id}/manifest.parquet",
    output:
        tokens="<results>/captions/{stage}/{id}/tokens.npy",
        augmented="<results>/captions/{stage}/{id}/augmented.npy",
        text="<results>/captions/{stage}/{id}/augmented.parquet",
    log:
        "<logs>/captions/{stage}/{id}.log",
    benchmark:
        "<benchmarks>/captions/{stage}/{id}.jsonl"
    wildcard_constraints:
        stage="attacks|splits",
    conda:
        "../envs/pipeline.yaml"
    threads: THREADS["captions"]
    resources:
        **NEEDS["captions"],
    params:
        **config["captions"],
        folder=subpath(output.tokens, parent=True),
        wordnet=config["wordnet"],
    shell:
        "(python -m workflow_scripts.captions.tokenize --manifest {input.manifest:q}"
        " --context-length {params.context_length:q} --output {params.folder:q}"
        " --workers {threads}"
        " && python -m workflow_scripts.captions.augment --manifest {input.manifest:q}"
        " --context-length {params.context_length:q} --output {params.folder:q}"
        " --seed {params.seed:q} --wordnet {params.wordnet:q} --workers {threads}) > {log:q} 2>&1"
