"""A Hugging Face causal language model and the tokens it reads: what capture.py and perplexity.py share."""

import os
import pathlib
import sys

import h5py
import numpy
import torch
import transformers


class Failure(Exception):
    """Ends a program with one line on standard error and exit code 1."""


def run(main):
    """Exits with main()'s outcome as the command-line tool does: 0 done, 1 failed with a one-line reason."""
    try:
        main()
    except (Failure, OSError) as error:
        first_line = str(error).strip().split("\n")[0]
        print(f"{pathlib.Path(sys.argv[0]).name}: {first_line}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{pathlib.Path(sys.argv[0]).name}: interrupted", file=sys.stderr)
        sys.exit(1)


def add_model_options(parser):
    parser.add_argument("model", metavar="MODEL", help="name on the Hugging Face hub, folder, or .gguf file")
    text = parser.add_mutually_exclusive_group(required=True)
    text.add_argument("--text", metavar="FILE", help="UTF-8 text to read")
    text.add_argument("--token-ids", metavar="DUMP.h5", help="read the token ids stored in a dump")
    parser.add_argument("--device", default="cpu", help="torch device, such as cuda:0 (default cpu)")
    parser.add_argument("--weights-dtype", choices=["auto", "float32", "float16", "bfloat16"], default="auto",
                        help="type that the model computes in (default: that of the weights)")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def _source(model):
    """(where, keyword arguments) of from_pretrained for a hub name, a folder or a .gguf file of either."""
    if not model.endswith(".gguf"):
        return model, {}
    folder, file = os.path.split(model)
    return folder or ".", {"gguf_file": file}


def load_model(arguments, attention):
    """The model in evaluation mode, with `attention` (a registered name) as its attention function."""
    if arguments.quiet:
        transformers.utils.logging.disable_progress_bar()
    dtype = arguments.weights_dtype
    where, keywords = _source(arguments.model)
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            where, dtype=dtype if dtype == "auto" else getattr(torch, dtype), attn_implementation=attention, **keywords)
    except (ValueError, ImportError) as error:
        raise Failure(f"{arguments.model}: {error}") from error
    return model.to(arguments.device).eval()


def read_token_ids(arguments):
    """(int64 [tokens], source): all token ids of --text or --token-ids, and what text they are."""
    if arguments.token_ids:
        with h5py.File(arguments.token_ids) as file:
            if "token_ids" not in file:
                raise Failure(f"{arguments.token_ids}: no dataset token_ids to replay")
            source = file.attrs.get("source", pathlib.Path(arguments.token_ids).name)
            return numpy.asarray(file["token_ids"][:], "i8"), source.decode() if isinstance(source, bytes) else str(source)
    where, keywords = _source(arguments.model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(where, **keywords)
    text = pathlib.Path(arguments.text).read_text(encoding="utf-8")
    return numpy.asarray(tokenizer(text)["input_ids"], "i8"), pathlib.Path(arguments.text).name


def positive(text):
    """An argparse type: a whole number from 1."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


positive.__name__ = "whole number from 1"
