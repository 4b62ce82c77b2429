"""BLEURT-20 (Sellam et al. 2020; Pu et al. 2021): a RemBERT with a regression head, trained on human ratings.

Reads the checkpoints of `lucadiliello/BLEURT-20` and its smaller kin as they are, with transformers' own RemBERT.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from r4r.errors import ModelError
from r4r.metrics.text_batches import by_length, padded

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
PIECES = "spm.model"
RENAMED = {"encoder.embedding_projection.": "encoder.embedding_hidden_mapping_in."}  # theirs -> transformers'
SIZES = (  # settings that both call by one name
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id"),
)
BUFFERS = {"bleurt.embeddings.position_ids", "bleurt.embeddings.token_type_ids"}  # positions, no weights


class BleurtModel(nn.Module):
    """Encoder, pooler (tanh of the first token) and one linear unit; dropout is idle when scoring."""

    def __init__(self, config: Any):
        from transformers import RemBertModel

        super().__init__()
        self.bleurt = RemBertModel(config)
        self.classifier = nn.Linear(config.hidden_size, 1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """(pairs,): about 0 to 1, higher is closer; outliers beyond are normal."""
        out = self.bleurt(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        return self.classifier(out.pooler_output).squeeze(-1)


class Bleurt:
    """Scores pairs of texts: the review is the reference, the reason the candidate.

    Args:
        max_length: tokens of a pair; of what is longer, the longer text is cut.
        batch_rows: pairs at once.
    """

    def __init__(self, model: BleurtModel, tokenizer: Any, max_length: int = 512, batch_rows: int = 32):
        self.model, self.tokenizer, self.batch_rows = model.eval(), tokenizer, batch_rows
        self.tokenizer.enable_truncation(max_length, strategy="longest_first")

    @classmethod
    def load(cls, folder: Path, device: torch.device, max_length: int = 512, batch_rows: int = 32) -> "Bleurt":
        """A checkpoint in a folder: config.json, weights (safetensors or pytorch_model.bin), tokenizer.

        Raises:
            ModelError: a file is missing, or the weights are not those of a BLEURT-20 model.
        """
        model = BleurtModel(_config(folder))
        weights, wanted = _weights(folder), model.state_dict()
        faults = [f"missing {name}" for name in wanted if name not in weights]
        faults += [f"unexpected {name}" for name in weights if name not in wanted]
        faults += [
            f"{name} of shape {tuple(value.shape)}, want {tuple(wanted[name].shape)}"
            for name, value in weights.items()
            if name in wanted and value.shape != wanted[name].shape
        ]
        if faults:
            more = f" and {len(faults) - 4} more" if len(faults) > 4 else ""
            raise ModelError(
                f"{folder}: the weights are not those of a BLEURT-20 model: {', '.join(faults[:4])}{more} "
                f"({len(wanted)} wanted). Set metrics.bleurt.source to hub:lucadiliello/BLEURT-20 or a folder of it"
            )
        model.load_state_dict(weights)
        return cls(model.float().to(device), load_tokenizer(folder), max_length, batch_rows)

    @torch.inference_mode()
    def score(self, reasons: Sequence[str], reviews: Sequence[str]) -> list[float]:
        """A score a pair."""
        # with tokenizers' own encode, as an empty reason stays the second text of a pair
        pairs = [self.tokenizer.encode(review, reason) for reason, review in zip(reasons, reviews, strict=True)]
        scores = [0.0] * len(pairs)
        device = self.model.classifier.weight.device
        for places in by_length([len(pair.ids) for pair in pairs], self.batch_rows):
            chosen = [pairs[place] for place in places]
            found = self.model(
                padded([pair.ids for pair in chosen], self.model.bleurt.config.pad_token_id or 0, device),
                padded([pair.attention_mask for pair in chosen], 0, device),
                padded([pair.type_ids for pair in chosen], 0, device),
            )
            for place, value in zip(places, found.tolist(), strict=True):
                scores[place] = value
        return scores


def _config(folder: Path) -> Any:
    from transformers import RemBertConfig

    try:
        said: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: config.json cannot be read ({error}); it is no BLEURT checkpoint") from error
    kind, width = said.get("model_type"), said.get("embedding_size")
    if kind != "bleurt" or not width:
        raise ModelError(
            f"{folder}: config.json describes a '{kind}' model without the factorised embeddings of BLEURT-20; "
            "set metrics.bleurt.source to hub:lucadiliello/BLEURT-20 or one of its smaller kin"
        )
    chosen = {key: said[key] for key in SIZES if key in said}
    return RemBertConfig(input_embedding_size=width, bos_token_id=None, eos_token_id=None, **chosen)


def _weights(folder: Path) -> dict[str, Tensor]:
    """By transformers' names.

    Raises:
        ModelError: no file of weights, or one that cannot be read.
    """
    path = next((folder / name for name in WEIGHTS if (folder / name).exists()), None)
    if path is None:
        raise ModelError(f"{folder}: there is neither {' nor '.join(WEIGHTS)}; it is no BLEURT checkpoint")
    state: Mapping[str, Tensor]
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each library has errors of its own for a damaged file
        raise ModelError(f"{path} cannot be read ({type(error).__name__}: {str(error).splitlines()[0]})") from error
    weights = {}
    for name, value in state.items():
        if name not in BUFFERS:
            for theirs, ours in RENAMED.items():
                name = name.replace(theirs, ours)
            weights[name] = value
    return weights


def load_tokenizer(folder: Path) -> Any:
    """The checkpoint's tokenizer, a tokenizers.Tokenizer: tokenizer.json, else BLEURT-20's own SentencePiece model.

    Raises:
        ModelError: neither file is there, or the model lacks a special token.
    """
    from tokenizers import Tokenizer

    if (folder / "tokenizer.json").exists():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    if not (folder / PIECES).exists():
        raise ModelError(f"{folder}: there is neither tokenizer.json nor {PIECES}; it is no BLEURT checkpoint")
    return sentence_pieces(folder / PIECES)


def sentence_pieces(path: Path) -> Any:
    """A unigram SentencePiece model as a fast tokenizer that lays a pair out as [CLS] first [SEP] second [SEP].

    Raises:
        ModelError: the file is no unigram model, or lacks [CLS] or [SEP].
    """
    from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import Unigram
    from transformers.convert_slow_tokenizer import import_protobuf

    proto = import_protobuf().ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's DecodeError lies in a module of its build's choice
        raise ModelError(f"{path} is no SentencePiece model ({type(error).__name__})") from error
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    ids = {piece: number for number, (piece, _) in enumerate(pieces)}
    lacking = [token for token in ("[CLS]", "[SEP]") if token not in ids]
    if lacking or proto.trainer_spec.model_type != 1:
        raise ModelError(f"{path} is not BLEURT-20's SentencePiece model: not unigram, or without {', '.join(lacking)}")
    tokenizer = Tokenizer(Unigram(pieces, unk_id=proto.trainer_spec.unk_id, byte_fallback=False))
    charsmap = proto.normalizer_spec.precompiled_charsmap
    steps = [normalizers.Precompiled(charsmap)] if charsmap else []
    tokenizer.normalizer = normalizers.Sequence(
        [*steps, normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]  # as SentencePiece trims
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer
