"""Projection of decoded records: samples in, vectors out, or the reason why a record has none.

The gradients are taken tile by tile, samples of one kind together; a record on which the model fails is isolated and
rejected. It knows no index and no earlier record: any process with the same model gives a record the same
vector, bit for bit, or rejects it for the same reason, no matter which other records it comes with.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace

import torch

from dugs_stream.core.gradient_spec import GradientSpec
from dugs_stream.core.gradients.layers import GradientPath
from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.losses.forms import LabelForm
from dugs_stream.core.probe import Probe
from dugs_stream.core.projector import Projection
from dugs_stream.core.samples import Inputs, Leaf, Structure, batch_of_one, structure_of
from dugs_stream.errors import ConfigurationError, ModelError, Problem, SampleError
from dugs_stream.inputs.decoder import Decoder, Sample
from dugs_stream.inputs.labels import Label
from dugs_stream.inputs.settings import LabelKind
from dugs_stream.pipeline.decode import BatchAbandonedError, DecodedBatch, Outcome, StageTimer, decode_records
from dugs_stream.pipeline.first_labels import FirstLabels
from dugs_stream.pipeline.kinds import Kind, ProbedKind, example_of, let_go
from dugs_stream.pipeline.projected import Piece, Projected, ProjectedBatch, in_one
from dugs_stream.pipeline.rejections import rejection_of, what_failed
from dugs_stream.pipeline.tiles import Tiles, at_once
from dugs_stream.records import LabelSource, Record

_MOST_KINDS = 1024
"""Probed kinds of samples that are kept, some kilobytes each: a codec may give each record a length of its own."""


class RecordProjector:
    """Records to vectors, through a decoder and a model. One thread, but for `decode`.

    `found` is what the first probe found. The model is probed once for each kind of samples: structure, shapes, dtypes, with
    or without a label. `expect` does that at the start and fixes the shape; without it every shape goes that the model takes.
    """

    def __init__(
        self,
        decoder: Decoder,
        spec: GradientSpec,
        stage: StageTimer,
        probed: Callable[[Probe], None] = lambda _found: None,
        *,
        tiles: Tiles | None = None,
    ) -> None:
        self.spec = spec
        self._probed = probed
        self.tiles = tiles or Tiles(spec.tile, most_tokens=512)
        self.found: Probe | None = None
        self.first_labels = FirstLabels(spec, decoder.labels)
        self._decoder = decoder
        if spec.loss.predicts_labels:
            self._decoder = replace(decoder, labels=replace(decoder.labels, is_ignored=True))
        elif spec.loss.form is LabelForm.POSITIONS and decoder.labels.type == "class":
            self._decoder = replace(decoder, labels=replace(decoder.labels, is_for_show=True))
        self._stage = stage
        self._kinds: dict[Kind, ProbedKind] = {}

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The chosen layers in the order in which they run; empty before the probe."""
        return () if self.found is None else tuple(layer.name for layer in self.found.layers)

    def layers_by(self, path: GradientPath) -> int:
        """How many of the chosen layers have their gradients computed this way; 0 before the probe."""
        return sum(layer.path == path for layer in (() if self.found is None else self.found.layers))

    @property
    def expected_shape(self) -> tuple[int, ...] | None:
        """That of every sample; None takes any that the model does."""
        return self._decoder.expected_shape

    @property
    def tile(self) -> int:
        """Samples computed together; cutting a micro-batch at its multiples changes no vector."""
        return self.tiles.usual if self.found is None else self.found.tile

    def expect(self, shape: Sequence[int], *dtypes: torch.dtype) -> None:
        """Probe the model with an example of this shape; records of another are rejected from now on.

        Of several dtypes, which a codec of one's own may give, the first counts that the model takes. Raises ModelError
        if the model cannot be used or fails on the examples, ConfigurationError if it has another number of classes than
        `input.classes`, ValueError for a shape that holds no number.
        """
        has_label = self._takes_given_labels
        failed: Exception | None = None
        for dtype in dtypes or (torch.float32,):
            structure = Structure("tensor", (Leaf("inputs", tuple(shape), dtype),))
            example = self.spec.in_precision(example_of(structure, self.spec.seed))
            kind = Kind(structure_of(example), ((), torch.int64) if has_label else None)
            probed = self._tried(kind, example, torch.tensor(0), is_proven=False)
            if isinstance(probed, ProbedKind):
                break
            failed = failed or probed
        else:
            raise failed or ValueError("no dtype to probe with")
        found = probed.found
        self._decoder = self._decoder.expecting(
            shape, found.classes if self.spec.loss.takes_classes else None
        )

    @property
    def _takes_given_labels(self) -> bool:
        """Whether the loss may be given a class, as far as the settings say."""
        takes_them = self.spec.loss.form in {LabelForm.CLASS, LabelForm.OWN}
        return takes_them and self._decoder.labels.place.kind is not LabelKind.NONE

    def try_out(self, structure: Structure, label: tuple[int, ...] | None) -> None:
        """Probe the model with an example of this structure; samples of others are taken too.

        label is the shape of int64 labels that come with the sample; None: it is a class, if records have labels.
        Raises as `expect` does.
        """
        shape = () if label is None and self._takes_given_labels else label
        kind = Kind(structure, None if shape is None else (shape, torch.int64))
        nothing = torch.zeros(shape or (), dtype=torch.int64)
        probed = self._tried(kind, example_of(structure, self.spec.seed), nothing, is_proven=False)
        if not isinstance(probed, ProbedKind):
            raise probed

    def decode(self, records: Sequence[Record]) -> list[Outcome]:
        """The sample of each record, or why it has none; any thread. Raises only what says that memory ran out."""
        return decode_records(self._decoder, records)

    def decoded(self, records: Sequence[Record]) -> DecodedBatch:
        """The same for `project`, timed; in this thread."""
        with self._stage("decode"):
            return DecodedBatch(tuple(records), tuple(self.decode(records)))

    def project(
        self,
        batch: DecodedBatch,
        should_abandon: Callable[[], bool] = lambda: False,
        *,
        model_is_proven: bool = False,
        keeps_samples: bool = True,
    ) -> ProjectedBatch:
        """The vectors of the batch's records; changes nothing.

        model_is_proven  an earlier record was accepted, so that what a probe finds wrong now is one record's doing
        keeps_samples    False: the batch is empty after it, since large samples are let go of as soon as they have vectors

        Raises BatchAbandonedError when `should_abandon` says so between two tiles, ModelError when the fault is the
        model's and not a record's. An error that says that memory ran out passes as it is: no record is to blame.
        """
        records = batch.records
        outcomes = list(batch.outcomes) if keeps_samples else batch.handed_over()
        kinds: dict[Hashable, tuple[Kind, list[int]]] = {}
        pieces: list[Piece] = []
        with self._stage("gradient"):
            for place, outcome in enumerate(outcomes):
                if isinstance(outcome, Sample):
                    if self.spec.loss.predicts_labels:
                        self.first_labels.remark_on(records[place])
                    converted = self._in_precision(outcome)
                    outcomes[place], form = converted, self._form_of(converted)
                    if form not in kinds:
                        kinds[form] = self._kind_of(converted), []
                    kinds[form][1].append(place)
            for kind, places in kinds.values():
                probed = self._kinds.get(kind) or self._probed_with(
                    kind, places, outcomes, model_is_proven=model_is_proven
                )
                if probed is not None:
                    own: list[Piece] = []
                    for piece in self._gradients(probed, places, outcomes, should_abandon):
                        own.append(piece)
                        # The look at the first labels may ask for samples of which it is not known what the model predicts.
                        is_done = piece[1].predicted is not None or not self.spec.loss.takes_classes
                        if is_done and kind.is_large and not keeps_samples:
                            let_go(piece[0], outcomes)
                    pieces += own
                    self._reject_unknown_classes(probed, places, outcomes)
                    if self.spec.loss.takes_classes:
                        self.first_labels.compare(own, outcomes, probed)
        return self._joined(records, outcomes, pieces)

    def tile_of(self, sample: Sample) -> int:
        """How many samples of this one's kind, which has been projected, are computed together."""
        return self._kinds[self._kind_of(self._in_precision(sample))].found.tile

    @staticmethod
    def release_memory() -> None:
        """Give the GPU back what a failed batch held, so that it does not stand in the next one's way."""
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # PyTorch left it without types
            torch.cuda.empty_cache()

    def _in_precision(self, sample: Sample) -> Sample:
        """The sample in the model's precision, which is its own matter and not its neighbours'."""
        inputs = self.spec.in_precision(sample.inputs)
        return sample if inputs is sample.inputs else replace(sample, inputs=inputs)

    def _form_of(self, sample: Sample) -> Hashable:
        """Equal for samples of one kind, and found out in less time than the kind."""
        if isinstance(sample.inputs, torch.Tensor):
            return sample.inputs.shape, sample.inputs.dtype, self._label_form_of(sample)
        return self._kind_of(sample)

    def _kind_of(self, sample: Sample) -> Kind:
        return Kind(structure_of(sample.inputs), self._label_form_of(sample))

    def _label_form_of(self, sample: Sample) -> tuple[tuple[int, ...], torch.dtype] | None:
        if isinstance(sample.label, Label):
            return None if self._passes_classes_by else ((), torch.int64)
        label = self.label_of(sample)
        return None if label is None else (tuple(label.shape), label.dtype)

    def label_of(self, sample: Sample) -> torch.Tensor | None:
        """The label that the loss is given."""
        if sample.label is None or self.spec.loss.predicts_labels:
            return None
        is_for_show = isinstance(sample.label, Label) and self._passes_classes_by
        return None if is_for_show else sample.label.tensor

    @property
    def _passes_classes_by(self) -> bool:
        """Whether the loss takes other labels than a class, or predicts its own."""
        return self.spec.loss.predicts_labels or self.spec.loss.form is LabelForm.POSITIONS

    def _probed_with(
        self,
        kind: Kind,
        places: list[int],
        outcomes: list[Outcome],
        *,
        model_is_proven: bool,
    ) -> ProbedKind | None:
        """Probe with a made-up example, so that every process finds the same; if the model fails on it, with the samples.

        None if the model takes none of them; each is rejected then.
        """
        is_proven = model_is_proven or self.found is not None
        made_up = example_of(kind.inputs, self.spec.seed)
        nothing = torch.tensor(0) if kind.label is None else torch.zeros(kind.label[0], dtype=kind.label[1])
        probed = self._tried(kind, made_up, nothing, is_proven=is_proven)
        errors: list[Exception] = []
        for place in places:
            if isinstance(probed, Exception) and isinstance(sample := outcomes[place], Sample):
                # A classification loss takes any class for the probe, and may not know this one.
                label = self.label_of(sample)
                own = nothing if label is None or self.spec.loss.takes_classes else label
                probed = self._tried(kind, sample.inputs, own, is_proven=is_proven)
                errors += [probed] if isinstance(probed, Exception) else []
        if isinstance(probed, ProbedKind):
            return probed
        self._require_intact(probed)
        for place, error in zip(places, errors, strict=True):
            outcomes[place] = rejection_of(error)
        return None

    def _tried(
        self, kind: Kind, example: Inputs, label: torch.Tensor, *, is_proven: bool
    ) -> ProbedKind | ModelError | ValueError | ConfigurationError:
        """The probed kind, or what this example is to blame for. Raises what the model or the settings are to blame for."""
        try:
            return self._probe(kind, example, label)
        except (ModelError, ValueError, ConfigurationError) as error:
            # With a cause, the model failed on the example.
            is_the_examples = isinstance(error, SampleError | ValueError) or error.__cause__ is not None
            if is_out_of_memory(error) or not (is_the_examples or is_proven):
                raise
            return error

    def _probe(self, kind: Kind, example: Inputs, label: torch.Tensor) -> ProbedKind:
        given = None if kind.label is None else label
        is_further = any(each.without_lengths == kind.without_lengths for each in self._kinds)
        found, projector = self.spec.probe(example, given, self.tiles.of(kind), is_further=is_further)
        if not self.tiles.settled(kind, found):
            found, projector = self.spec.probe(example, given, self.tiles.of(kind))
        names = self._decoder.labels.classes
        if names is not None and found.classes not in (None, len(names)):
            raise ConfigurationError(
                [
                    Problem(
                        "input.classes",
                        f"it names {len(names)} classes, the model has {found.classes} outputs: labels and gradients would "
                        "be those of other classes.",
                        "Name the model's classes, one for each output and in their order, or give the model's own number of "
                        "classes in model.kwargs.",
                    )
                ]
            )
        if self.found is None:
            self.found = found
            self._probed(found)
        self._kinds[kind] = probed = ProbedKind(found, projector, example, given)
        if len(self._kinds) > _MOST_KINDS:
            del self._kinds[next(iter(self._kinds))]
        return probed

    def _gradients(
        self,
        probed: ProbedKind,
        places: list[int],
        outcomes: list[Outcome],
        should_abandon: Callable[[], bool],
    ) -> Iterator[Piece]:
        """The samples at these places tile by tile; one on which the model fails becomes a rejection in `outcomes`.

        The tile is fixed, so cutting there changes no bit of any vector.
        """

        def between_tiles() -> None:
            if should_abandon():
                raise BatchAbandonedError

        step = at_once(probed.found.tile)
        for start in range(0, len(places), step):
            between_tiles()
            yield from self._isolating(probed, places[start : start + step], outcomes, between_tiles)

    def _isolating(
        self,
        probed: ProbedKind,
        places: list[int],
        outcomes: list[Outcome],
        between_tiles: Callable[[], None],
    ) -> list[Piece]:
        """Halve what fails until the guilty record stands alone; that one is rejected, the others go on."""
        samples = [outcome for place in places if isinstance(outcome := outcomes[place], Sample)]
        try:
            return [(places, probed.project(samples, between_tiles))]
        except Exception as error:
            if isinstance(error, BatchAbandonedError) or is_out_of_memory(error):
                raise  # halving within the tile would blame the record that happens to stand alone
            if len(places) == 1:
                self._require_intact(error)
                outcomes[places[0]] = rejection_of(error)
                return []
            middle = len(places) // 2
            return [
                *self._isolating(probed, places[:middle], outcomes, between_tiles),
                *self._isolating(probed, places[middle:], outcomes, between_tiles),
            ]

    def _require_intact(self, error: Exception) -> None:
        """An example that the model was probed with tells a bad record from a broken model or device."""
        probed = next(reversed(self._kinds.values()), None)
        try:
            if probed is None:
                torch.ones(1, device=self.spec.device).add(1).item()
            else:
                label = None if probed.label is None else probed.label[None]
                probed.projector.project(batch_of_one(probed.example), label)
        except Exception as broken:
            if is_out_of_memory(broken):
                raise
            raise ModelError(
                f"The model fails on the sample that it was probed with ({what_failed(broken)}), so no record is to blame. "
                "None of these records was judged; look at the device, then start again."
            ) from error

    def _reject_unknown_classes(self, probed: ProbedKind, places: list[int], outcomes: list[Outcome]) -> None:
        """Without an expected shape, how many classes there are is known only once the model has taken the sample."""
        classes = probed.found.classes
        if not self.spec.loss.takes_classes or classes is None:
            return
        labels = replace(self._decoder.labels, outputs=classes)
        for place in places:
            outcome = outcomes[place]
            number = (
                None if not isinstance(outcome, Sample) or outcome.label is None else outcome.label.number
            )
            if number is not None and number >= classes:
                outcomes[place] = labels.out_of_range(number)

    def _joined(
        self,
        records: Sequence[Record],
        outcomes: Sequence[Outcome],
        pieces: Sequence[Piece],
    ) -> ProjectedBatch:
        """One projection of the pieces, its rows in the order of the records, and each sample's row of it."""
        places = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, Sample)]
        whole = in_one(pieces, places, self.spec.dimension, has_labels=self.spec.loss.predicts_labels)
        rows = {place: row for row, place in enumerate(places)}
        projected = tuple(
            self._projected(outcome, rows[place], whole) if isinstance(outcome, Sample) else outcome
            for place, outcome in enumerate(outcomes)
        )
        return ProjectedBatch(tuple(records), projected, whole)

    def _projected(self, sample: Sample, row: int, projection: Projection) -> Projected:
        if projection.labels is not None:
            number = int(projection.labels[row])
            label = Label(number, self._decoder.labels.name(number))
            return Projected(row, label, LabelSource.PREDICTED, sample.is_cut)
        source = None if sample.label is None else LabelSource.GIVEN
        return Projected(row, sample.label, source, sample.is_cut)
