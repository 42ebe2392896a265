"""The worker's log of what happened to images."""

from workers.images import ImageEvent
from workers.steps import SwapLog
from workers.swap_policy import Tier


def loaded(image: str, source: Tier = "disk") -> ImageEvent:
    return ImageEvent("loaded", image, source, "device", 100, 0.5)


def test_a_swap_is_a_hit_unless_its_image_was_loaded_for_it() -> None:
    log = SwapLog()
    log.preloading("a")
    log.happened(loaded("a"))
    log.happened(loaded("b"))
    for image in "aba":
        log.swapped(None, image, 0, 0.001)
    stats = log.stats()
    assert (stats["swaps"], stats["swap_hits"]) == (3, 2)
    log.happened(ImageEvent("evicted", "a", "device", "host", 0, 0.0))
    log.happened(loaded("a", "host"))
    log.swapped("b", "a", 0, 0.001)
    assert log.stats()["swap_hits"] == 2


def test_prefetches_count_when_their_image_is_computed_with() -> None:
    log = SwapLog()
    for image in "ab":
        log.prefetching(image)
        log.happened(loaded(image))
    log.happened(ImageEvent("evicted", "a", "device", "disk", 0, 0.0))
    log.swapped(None, "b", 0, 0.001)
    stats = log.stats()
    assert (stats["prefetched"], stats["prefetch_used"]) == (2, 1)
    assert (stats["loads"], stats["moved_bytes"], stats["moved_seconds"]) == ({"disk": 2}, {"disk": 200}, {"disk": 1.0})


def test_events_count_up_and_the_oldest_go() -> None:
    log = SwapLog()
    for number in range(SwapLog.KEPT + 3):
        log.swapped(None, str(number), 0, 0.0)
    events = log.stats()["events"]
    assert [event.number for event in events] == list(range(4, SwapLog.KEPT + 4))
