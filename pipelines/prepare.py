"""Preparation alone: corpora to filtered token shards under one manifest, with a report on them."""

from kfp import dsl

from components.data.gather import gather
from components.data.train_tokenizer import train_tokenizer
from pipelines.placement import tracked
from pipelines.preparation import encode, join


@dsl.pipeline(name="prepare", description="Gather corpora, leave out duplicates and evaluation data, tokenize, report.")
def prepare(corpus: dict, tokenizer: dict, filtering: dict, shards: dict, instruct: dict):
    """Gather, compare, tokenize, join and report on the mixture that `instruct` trains on."""
    with tracked():
        gathered = gather(config=corpus)
        made = train_tokenizer(corpus=gathered.outputs["corpus"], config=tokenizer)
        join(encode(gathered, made.outputs["tokenizer"], filtering, shards, instruct), split="")
