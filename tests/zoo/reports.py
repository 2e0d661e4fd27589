"""Public reports against the tools of this field, by kind, each with the trial that it became here."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.zoo import trials

Trial = Callable[[], None]


@dataclass(frozen=True)
class Report:
    """A complaint about another tool.

    where      repository and number
    complaint  what its users saw
    showed     what trying it on us showed, and what was done
    trial      plays it here, or names the test that does: path::name
    """

    where: str
    kind: str
    complaint: str
    showed: str
    trial: Trial | str


SHARED, PLACES, MODES = "shared weights", "layers of every kind", "modes and buffers"
NUMBERS, SEARCH, PICTURES, LOG = "numbers", "duplicates and search", "pictures", "log and recovery"

REPORTS = [
    Report("meta-pytorch/opacus#413", SHARED, "tied embedding: gradients stacked in a list instead of added",
           "half of the gradient was missing; every use counts now", trials.tied_embedding),
    Report("pytorch/pytorch#80951", SHARED, "tied weights end in an error that is beside the point",
           "half of the gradient was missing; every use counts now", trials.tied_embedding_chosen_by_name),
    Report("f-dangel/backpack#248", SHARED, "a layer called twice (Siamese) has no input0",
           "held", trials.siamese),
    Report("meta-pytorch/opacus#578", SHARED, "a LayerNorm used at two places has no per-sample gradient",
           "held", trials.norm_at_two_places),
    Report("meta-pytorch/captum#201", SHARED, "reused modules and in-place ReLU give wrong attributions",
           "held", trials.in_place_and_reused),
    Report("logix-project/logix#110", SHARED, "a model with LoRA fails inside the tool",
           "the frozen base was taken for the adapter; layers with trainable parameters count now", trials.adapter),
    Report("meta-pytorch/opacus#239", PLACES, "a bare nn.Parameter (ViT's class token) is not supported",
           "could not be named; a parameter can be named like a module now", trials.class_token),
    Report("meta-pytorch/opacus#717", PLACES, "GRU: dimension mismatch in backward", "held", trials.gru),
    Report("f-dangel/backpack#270", PLACES, "LSTM: Parameter has no grad_batch", "held", trials.lstm),
    Report("f-dangel/backpack#149", PLACES, "a scale of one's own is right only for outputs of two axes",
           "held", trials.scale_over_many_axes),
    Report("f-dangel/backpack#86", PLACES, "DataParallel breaks the hooks", "held", trials.data_parallel),
    Report("pytorch/tutorials#2566", PLACES, "per-sample gradients of a loop over an RNN cell",
           "held", trials.loop_over_a_cell),
    Report("meta-pytorch/captum#1030", PLACES, "the argument that names layers was not used", "held", trials.layers_that_are_named),
    Report("pytorch/pytorch#61519", MODES, "in-place ReLU behind a layer with a backward hook raises",
           "held", trials.in_place_relu_behind_a_hook),
    Report("meta-pytorch/opacus#315", MODES, "frozen BatchNorm of a backbone is refused", "held", trials.frozen_backbone),
    Report("pytorch/functorch#867", MODES, "BatchNorm in eval mode fails under vmap", "held", trials.batch_norm_in_eval_mode),
    Report("pytorch/functorch#273", MODES, "BatchNorm without running statistics mixes the batch",
           "refused by the layer's name", trials.batch_norm_of_the_batch),
    Report("lightly-ai/lightly#1438", MODES, "a frozen backbone goes on changing its running statistics",
           "held", trials.statistics_stay),
    Report("f-dangel/backpack#233", MODES, "layers that were frozen are computed all the same",
           "frozen layers counted among the last Z; they do not now", trials.frozen_first_layer),
    Report("meta-pytorch/captum#880", NUMBERS, "a loss that averages over the batch scales the influence in silence",
           "refused: one loss a sample", trials.averaging_loss),
    Report("MadryLab/trak#30", NUMBERS, "gradients kept in float16 vanish", "held", trials.vanishing_gradients),
    Report("TRAIS-Lab/dattri#109", NUMBERS, "projection fails above a number of parameters", "held", trials.many_parameters),
    Report("facebookresearch/faiss#915", SEARCH, "cosines above 1",
           "similarities of 1.0000000000000002; they lie within −1 and 1 now", trials.cosine_of_equals),
    Report("facebookresearch/faiss#1206", SEARCH, "−1 and a huge distance for a query that is not a number",
           "held: rejected, and it never enters the list", trials.not_a_number),
    Report("facebookresearch/faiss#361", SEARCH, "answers change with the number of queries at once",
           "held", "tests/property/test_index_answers.py::test_other_queries_change_no_answer"),
    Report("cleanlab/cleanlab#1056", SEARCH, "a set of equal examples gets unstable scores", "held", trials.all_equal),
    Report("visual-layer/fastdup#11", SEARCH, "the duplicates that are named are others",
           "held", "tests/unit/pipeline/test_judge.py::test_nearest_of_the_same_batch_is_named_by_its_id"),
    Report("visual-layer/fastdup#322", PICTURES, "a GIF under the name .jpg is called damaged", "held", trials.gif_by_another_name),
    Report("visual-layer/fastdup#219", PICTURES, "four channels are too many", "held", trials.four_channels),
    Report("visual-layer/fastdup#69", PICTURES, "16-bit grey is read as 8 bits", "held", trials.sixteen_bits),
    Report("qarmin/czkawka#1199", PICTURES, "a picture turned by EXIF is another picture", "held", trials.turned_by_exif),
    Report("arsenetar/dupeguru#94", PICTURES, "grey pictures end the program", "held", trials.grey_for_colour),
    Report("dpkp/kafka-python#1547", LOG, "a consumer out of its group goes on consuming",
           "held: what it read is not committed", "tests/faults/test_owners.py::"
           "test_zombie_writes_nothing_fences_nobody_and_comes_back_as_standby"),
    Report("dpkp/kafka-python#2179", LOG, "a batch that outlives its membership fails to commit, again and again",
           "held: smaller batches", "tests/faults/test_owners.py::"
           "test_batch_that_outlives_its_membership_is_given_up_and_decided_in_smaller_ones"),
    Report("confluentinc/librdkafka#2933", LOG, "a commit beside a rebalance stops the consumer for good",
           "held", "tests/faults/test_owners.py::test_quick_rebalances_reload_nothing_and_lose_nothing"),
    Report("faust-streaming/faust#48", LOG, "each restart decides the last record again",
           "held", "tests/daemon/test_daemon.py::test_second_run_goes_on_where_the_first_ended"),
    Report("faust-streaming/faust#47", LOG, "recovery waits for ever behind a transaction's marker",
           "held", "tests/daemon/test_replay_position.py::test_state_rebuilt_by_replay_stands_at_the_changelogs_end"),
    Report("faust-streaming/faust#176", LOG, "a compacted changelog cannot be restored",
           "held", "tests/unit/changelog/test_replay.py::test_compacted_changelog_replays_in_bounded_parts"),
    Report("quixio/quix-streams#1114", LOG, "a committed offset that retention has passed stops recovery in silence",
           "held: goes on behind the gap and counts it", "tests/unit/changelog/test_resume.py::"
           "test_records_deleted_by_retention_are_counted_aloud"),
    Report("robinhood/aiokafka#7", LOG, "a changelog whose end cannot be asked for counts as empty",
           "held: the start is refused or waits", "tests/daemon/test_process.py::test_absent_broker_is_waited_for_and_named_once"),
]  # fmt: skip
