"""The findings of `check`: every planted fault is found, and its clean twin says nothing."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps
from planted import CHANGES, compressed, natural

from tellapart.audit import balance, bursts, duplicates, files, labels, near, shapes, shortcut, worker
from tellapart.audit.facts import FACT, Facts
from tellapart.audit.findings import Finding, ordered
from tellapart.audit.first import first_look
from tellapart.data.index import NO_PART, ArrayStore, Ignored, Index, Strings
from tellapart.data.split import divided, grouped

TRAIN, TEST = 0, 2


def facts_of(
    images: list[Image.Image], labels: Any = None, *, parts: Any = None, keys: list[str] | None = None
) -> Facts:
    """Facts of pictures in memory, of classes 'a', 'b', …"""
    marks = np.array([0] * len(images) if labels is None else labels, np.int64)
    rows = np.array([worker.seen(np.asarray(image))[0] for image in images], FACT)
    index = Index(
        name="x",
        classes=tuple("abcdefghij"[: max(2, int(marks.max(initial=0)) + 1)]),
        keys=Strings.of(keys or [f"{n * 7:05d}.png" for n in range(len(images))]),
        labels=marks,
        parts=np.full(len(images), NO_PART, np.uint8) if parts is None else np.array(parts, np.uint8),
        store=ArrayStore(np.zeros((len(images), 1, 1, 1), np.uint8)),
        digests=rows["digest"],
    )
    return Facts(index=index, table=rows, reasons=Strings.of([""] * len(images)))


def changed(facts: Facts, **columns: Any) -> Facts:
    """The same facts with other values in some columns."""
    table = facts.table.copy()
    for name, values in columns.items():
        table[name] = values
    return replace(facts, table=table)


def kinds(findings: Any) -> list[str]:
    return [one.kind for one in findings]


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return [natural(n) for n in range(150)]


def copies(facts: Facts) -> list[Finding]:
    exact, units = duplicates.exact_units(facts), duplicates.near_units(facts)
    near = duplicates.near_duplicates(facts, units, exact, facts.index.parts)
    return [*duplicates.exact_duplicates(facts, exact), *near]


# --- duplicates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "change"), CHANGES.items(), ids=list(CHANGES))
def test_changed_copies_are_found_and_nothing_else_is(photos, how, change):
    facts = facts_of([*photos[:100], *(change(photo) for photo in photos[:40])])
    groups = duplicates.groups_of(duplicates.near_units(facts))
    assert [rows.tolist() for rows in groups] == [[n, n + 100] for n in range(40)]


def test_clean_pictures_have_no_copies(photos):
    assert copies(facts_of(photos, [n % 2 for n in range(150)], parts=[2 * (n % 3 == 0) for n in range(150)])) == []


def test_equal_pixels_are_told_where_they_harm_most(photos):
    six = photos[:6]
    facts = facts_of(
        [*six, six[0], six[1], six[1], six[2]],
        [0, 0, 0, 1, 1, 1, 0, 1, 0, 0],
        parts=[TRAIN] * 9 + [TEST],
    )
    inside, across, torn = (ordered(copies(facts))[n] for n in (2, 0, 1))
    assert (across.kind, across.severity, across.numbers["groups"]) == ("duplicates-across-parts", "serious", 1)
    assert [key for key, _ in across.files] == ["00014.png", "00063.png"]
    assert across.files[1][1] == "group 1 · test, class a"
    assert (torn.kind, torn.severity, torn.numbers) == (
        "duplicates-two-labels",
        "serious",
        {"pictures": 3, "groups": 1, "of": 10},
    )
    assert (inside.kind, inside.severity) == ("duplicates", "warning")
    assert inside.title == "2 of 10 pictures in 1 group: equal pixels twice in one class"
    assert across.fix.endswith("train with --split new")


def test_a_group_in_two_parts_is_serious_and_one_in_one_part_is_not(photos):
    facts = facts_of(photos[:8], parts=[0, 0, 1, 0, 2, 0, NO_PART, NO_PART])
    apart = replace(facts, index=replace(facts.index, groups=np.array([0, 0, 1, 2, 3, 2, 3, 1])))
    assert list(duplicates.torn_groups(apart)) == list(duplicates.torn_groups(facts)) == []
    (finding,) = duplicates.torn_groups(
        replace(facts, index=replace(facts.index, groups=np.array([0, 0, 0, 2, 3, 2, 3, 1])))
    )
    assert (finding.kind, finding.severity, len(finding.files)) == ("groups-across-parts", "serious", 3)
    assert finding.title == "1 of 4 groups with pictures in more than one part"


def test_near_copies_across_parts_are_serious_under_two_classes_a_warning(photos):
    facts = facts_of([*photos, compressed(photos[0], 50)], parts=[TRAIN] * 150 + [TEST])
    assert [(one.kind, one.severity) for one in copies(facts)] == [("near-duplicates-across-parts", "serious")]
    assert "check with --groups-out groups.csv and train with --split groups.csv" in copies(facts)[0].fix
    facts = facts_of([*photos, ImageOps.mirror(photos[0])], [0] * 150 + [1])
    assert [(one.kind, one.severity) for one in copies(facts)] == [("near-duplicates-two-labels", "warning")]
    facts = facts_of([*photos, ImageOps.mirror(photos[0])])
    assert [(one.kind, one.severity) for one in copies(facts)] == [("near-duplicates", "info")]


def test_pictures_that_only_look_alike_are_not_copies():
    """Small pictures in a dense cloud, as clothes or digits are: near each other, in proportion to their contrast."""
    rng = np.random.default_rng(0)
    base = np.asarray(natural(0, width=28, height=28), np.float64)
    cloud = []
    for n in range(400):
        other = np.asarray(natural(1000 + n, width=28, height=28), np.float64)
        cloud.append(Image.fromarray(np.clip(base + rng.uniform(0.1, 0.2) * (other - 128), 0, 255).astype(np.uint8)))
    assert [one for one in copies(facts_of(cloud)) if one.kind.startswith("near")] == []
    planted = [*cloud, compressed(cloud[5], 95)]
    (finding,) = copies(facts_of(planted))
    assert [key for key, _ in finding.files] == ["00035.png", "02800.png"]


def test_strokes_that_look_alike_are_not_copies_and_their_bad_copies_are():
    """Bright strokes on black of 28 px, as digits are: a copy of quality 30 differs by as much as some neighbours."""

    def stroke(n: int) -> Image.Image:
        rng = np.random.default_rng(n)
        x, y = np.meshgrid(np.arange(28), np.arange(28))
        lean, wide = np.linspace(-4, 4, 6) + rng.uniform(-3, 3, 6), rng.uniform(1.2, 2.2)
        middle = np.interp(np.arange(28), np.linspace(4, 24, 6), 14 + lean)[:, None]
        distance = np.abs(x - middle) + 9 * np.maximum(0, np.abs(y - 14) - rng.uniform(8, 11))
        return Image.fromarray(np.clip(255 * (wide + 0.5 - distance), 0, 255).astype(np.uint8))

    strokes = [stroke(n) for n in range(300)]
    assert copies(facts_of(strokes)) == []
    changes = [change for name, change in CHANGES.items() if name != "grey"]
    planted = [changes[n % len(changes)](strokes[n]) for n in range(100)]
    groups = duplicates.groups_of(duplicates.near_units(facts_of([*strokes, *planted])))
    found = [rows.tolist() for rows in groups]
    assert all(second == first + 300 for first, second in found)
    assert len(found) >= 99


@pytest.mark.parametrize("kernel", near.KERNELS)
def test_a_small_copy_as_it_would_be_had_its_picture_been_smaller_is_what_pillow_makes(photos, kernel):
    thumb = photos[0].convert("L").resize((32, 32))
    small = thumb.resize((14, 20), kernel).resize((32, 32), Image.Resampling.BILINEAR)
    found = near._as_small(np.asarray(thumb, np.float32)[None], 20, 14, kernel)[0]
    assert np.abs(found - np.asarray(small, np.float32)).max() <= 1.5  # Pillow rounds four times


def test_even_pictures_are_not_taken_for_each_other():
    even = [Image.new("RGB", (20, 20), (level, level, level)) for level in (0, 1, 2, 128, 129, 255)]
    assert copies(facts_of(even)) == []


def test_components_are_those_of_a_plain_search():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        pairs = rng.integers(0, 30, (int(rng.integers(0, 40)), 2))
        names = list(range(30))
        for _ in range(30):
            for a, b in pairs:
                names[a] = names[b] = min(names[a], names[b])
        assert near.components(30, pairs).tolist() == names


# --- files ------------------------------------------------------------------------------------------------------------


def test_every_fault_is_a_serious_finding_and_every_trait_is_said(photos):
    plain = facts_of(photos[:13])
    assert [*files.faulty(plain), *files.traits(plain), *files.wrong_endings(plain), *files.left_out(plain, {})] == []
    faults = replace(changed(plain, fault=list(files.FAULTS)), reasons=Strings.of(f"why {n}" for n in range(13)))
    found = list(files.faulty(faults))
    assert {one.severity for one in found} == {"serious"}
    assert kinds(found) == [kind for kind, _, _ in files.FAULTS.values()]
    assert found[0].title == "1 of 13 files of zero bytes"
    assert found[0].files == (("00000.png", "why 0"),)
    traits = changed(
        plain,
        bits=[16] + [8] * 12,
        mode=[b"RGB", b"CMYK", b"P", b"RGBA"] + [b"RGB"] * 9,
        alpha=[False] * 3 + [True] + [False] * 9,
        orientation=[1] * 4 + [8] + [1] * 8,
    )
    told = {one.kind: one for one in files.traits(traits)}
    assert {kind: [key for key, _ in one.files] for kind, one in told.items()} == {
        "sixteen-bit": ["00000.png"],
        "cmyk": ["00007.png"],
        "palette": ["00014.png"],
        "alpha": ["00021.png"],
        "rotated": ["00028.png"],
    }
    assert {one.severity for one in told.values()} == {"info"}
    assert told["rotated"].files[0][1].endswith("orientation 8")


def test_a_name_that_lies_about_the_format_is_a_warning(photos):
    facts = changed(facts_of(photos[:3]), format=[b"PNG", b"JPEG", b"PNG"])
    (finding,) = files.wrong_endings(facts)
    assert (finding.severity, finding.files) == ("warning", (("00007.png", "is JPEG"),))


def test_files_that_are_left_out_are_named(photos):
    facts = facts_of(photos[:2])
    facts = replace(facts, index=replace(facts.index, ignored=(Ignored(key="a/b.gif", reason=".gif is not read"),)))
    (finding,) = files.left_out(facts, {})
    assert (finding.severity, finding.files) == ("info", (("a/b.gif", ".gif is not read"),))
    (finding,) = files.left_out(facts, {"a/b.gif": "JPEG by its first bytes"})
    assert (finding.severity, finding.files) == ("warning", (("a/b.gif", "JPEG by its first bytes"),))
    assert finding.title.startswith("1 picture beside 2 pictures that count are left out, for the ending of the name")


# --- balance, shapes, statistics --------------------------------------------------------------------------------------


def test_classes_of_unlike_size_and_tiny_ones_are_told():
    assert list(balance.balance("abc", [100, 90, 50])) == []
    (info,) = balance.balance("ab", [100, 30])
    assert (info.severity, info.numbers["ratio"]) == ("info", 100 / 30)
    uneven, tiny = balance.balance("abc", [500, 3, 400])
    assert (uneven.severity, tiny.severity) == ("warning", "warning")
    assert uneven.title == "Class a has 500 pictures and b has 3: 167 to 1"
    assert tiny.title == "1 of 3 classes with fewer than 10 pictures: b (3)"


def test_the_crop_loss_is_the_area_outside_the_centre_square():
    sizes = np.array([[100, 300], [100, 100], [50, 100]])
    assert shapes.crop_loss(sizes).tolist() == [1 - 1 / 3, 0.0, 0.5]
    (finding,) = shapes.crop_findings(np.array([[100, 300]] * 9 + [[100, 100]] * 9), np.repeat([0, 1], 9), "ab")
    assert finding.severity == "warning"
    assert finding.numbers["by_class"] == pytest.approx({"a": 2 / 3, "b": 0})
    assert "--set input.fit=pad" in finding.fix
    (photo,) = shapes.crop_findings(np.array([[375, 500]] * 9), np.zeros(9, np.int64), "a")
    assert (photo.severity, photo.fix) == ("info", "")
    assert list(shapes.crop_findings(np.array([[100, 100]] * 9), np.zeros(9, np.int64), "a")) == []


def test_odd_sizes_and_extreme_shapes_are_named():
    usual = [natural(n, width=64, height=48) for n in range(30)]
    assert list(shapes.odd_shapes(facts_of(usual))) == []
    found = list(
        shapes.odd_shapes(facts_of([*usual, natural(99, width=400, height=300), natural(98, width=160, height=48)]))
    )
    assert [(one.kind, one.files) for one in found] == [
        ("odd-sizes", (("00210.png", "400 x 300"),)),
        ("extreme-shapes", (("00217.png", "160 x 48"),)),
    ]


def test_mean_and_deviation_are_those_of_the_training_pictures():
    images = [natural(n, width=20 + n, height=16) for n in range(6)]
    (finding,) = shapes.statistics(facts_of(images, parts=[0, 0, 0, 0, 1, 2]))
    planes = [np.asarray(image).reshape(-1, 3) / 255 for image in images[:4]]
    mean = np.mean([plane.mean(axis=0) for plane in planes], axis=0)
    square = np.mean([(plane**2).mean(axis=0) for plane in planes], axis=0)
    assert finding.numbers["mean"] == pytest.approx(mean, abs=1e-4)
    assert finding.numbers["std"] == pytest.approx(np.sqrt(square - mean**2), abs=1e-4)
    assert finding.numbers["n"] == 4
    (grey,) = shapes.statistics(facts_of([image.convert("L") for image in images]))
    assert len(grey.numbers["mean"]) == 1


# --- bursts -----------------------------------------------------------------------------------------------------------


def burst(first: int, count: int) -> list[Image.Image]:
    """Pictures that drift slowly, as a camera does."""
    start, end = (np.asarray(natural(first + n), np.float64) for n in (0, 1))
    steps = [0.15 * n / count for n in range(count)]
    return [Image.fromarray((start * (1 - s) + end * s).round().astype(np.uint8)) for s in steps]


def test_numbered_pictures_that_look_alike_are_suggested_as_one_group(photos):
    images = [*photos[:60], *burst(900, 8)]
    names = [f"a/IMG_{n:04d}.png" for n in range(60)]
    spread = facts_of(images, keys=[*names, *(f"a/IMG_{n:04d}.png" for n in range(60, 68))])
    (finding,) = bursts.bursts(spread, np.arange(68))
    assert (finding.kind, finding.severity) == ("bursts", "warning")
    assert finding.numbers == {"pictures": 8, "runs": 1, "of": 68}
    assert finding.files[0] == ("a/IMG_0060.png", "run 1 · class a")
    assert finding.fix == "Keep each run in one part: train with --group-by '^(.*)[0-9]{1}[^0-9/]*$'"
    keeping = grouped(spread.index, r"^(.*)[0-9]{1}[^0-9/]*$")
    assert list(bursts.bursts(replace(spread, index=keeping), np.arange(68))) == []
    parts = np.array([TRAIN] * 64 + [TEST] * 4, np.uint8)
    (torn,) = bursts.bursts(replace(spread, index=replace(keeping, parts=parts)), np.arange(68))
    assert (torn.kind, torn.severity, torn.fix.endswith(" --split new")) == ("bursts-across-parts", "serious", True)
    apart = facts_of(images, keys=[*names, *(f"a/IMG_{n:04d}.png" for n in range(100, 180, 10))])
    assert list(bursts.bursts(apart, np.arange(68))) == []
    assert list(bursts.bursts(facts_of(photos, keys=[f"{n}.png" for n in range(150)]), np.arange(150))) == []


def test_a_burst_that_goes_on_in_another_part_folder_is_serious(photos):
    """IMG_0060 … in train/, IMG_0064 … in test/: the numbers go on, so the folders of the parts count for nothing."""
    images, parts = [*photos[:60], *burst(900, 8)], [TEST * (n % 3 == 0) for n in range(68)]
    folders = {TRAIN: "train/a", TEST: "Test/a"}
    keys = [f"{folders[part]}/IMG_{n:04d}.png" for n, part in enumerate(parts)]
    (torn,) = bursts.bursts(facts_of(images, keys=keys, parts=parts), np.arange(68))
    assert (torn.kind, torn.severity, torn.numbers["pictures"]) == ("bursts-across-parts", "serious", 8)
    assert torn.fix.endswith("train with --split groups.csv")
    assert {key.split("/")[0] for key, _ in torn.files} == {"train", "Test"}
    elsewhere = [f"test-from/{key[5:]}" if key[0] == "T" else key[6:] for key in keys]
    assert kinds(bursts.bursts(facts_of(images, keys=elsewhere, parts=parts), np.arange(68))) == ["bursts-across-parts"]
    # clean twins: the burst in one part, no burst, and numbers that begin anew in each part
    together = [TRAIN if n >= 60 else part for n, part in enumerate(parts)]
    whole = [f"{folders[part]}/IMG_{n:04d}.png" for n, part in enumerate(together)]
    assert kinds(bursts.bursts(facts_of(images, keys=whole, parts=together), np.arange(68))) == ["bursts"]
    assert list(bursts.bursts(facts_of(photos[:68], keys=keys, parts=parts), np.arange(68))) == []
    halves = [*burst(900, 8), *photos[:60]]
    anew = [f"{['train', 'test'][n % 2]}/a/{n // 2:04d}.png" for n in range(68)]
    found = bursts.bursts(facts_of(halves, keys=anew, parts=[TEST * (n % 2) for n in range(68)]), np.arange(68))
    assert kinds(found) == ["bursts"]


def test_a_burst_that_no_pattern_fits_is_kept_together_by_a_file(photos):
    images = [*photos[:44], *burst(900, 8)]
    facts = facts_of(images, keys=[f"IMG_{n:04d}.png" for n in (*range(44), *range(97, 105))])
    (finding,) = bursts.bursts(facts, np.arange(52))
    assert finding.fix.endswith("train with --split groups.csv")
    assert bursts.kept_together(facts, np.arange(52)) == [""] * 44 + ["IMG_0097.png"] * 8
    units = np.arange(52)
    units[[7, 50]] = 3
    grouped_too = replace(facts, index=replace(facts.index, groups=np.array([0, 1, 0, *range(2, 51)])))
    expected = ["IMG_0000.png", "", "IMG_0000.png", "IMG_0003.png", *[""] * 3, "IMG_0003.png", *[""] * 36]
    assert bursts.kept_together(grouped_too, units) == [*expected, *["IMG_0003.png"] * 8]


def test_a_burst_in_a_folder_of_its_own_needs_no_pattern(photos):
    images = [image for n in range(8) for image in burst(900 + 10 * n, 5)]
    facts = facts_of(images, keys=[f"a/walk{n}/{8 + i:02d}.png" for n in range(8) for i in range(5)])
    (finding,) = bursts.bursts(facts, np.arange(40))
    assert finding.fix == "Keep each run in one part: train with --group-by folder"


# --- shortcuts --------------------------------------------------------------------------------------------------------


def probed(facts: Facts) -> list[Finding]:
    return list(shortcut.shortcuts(shortcut.probes(facts, np.arange(len(facts))), facts))


def test_a_class_that_the_file_size_gives_away_is_a_warning(photos):
    marks = [n % 2 for n in range(150)]
    rng = np.random.default_rng(0)
    facts = facts_of(photos, marks)
    clean = probed(changed(facts, bytes=rng.integers(9_000, 11_000, 150), format=b"JPEG"))
    assert kinds(clean) == ["probes"]
    warning, table = probed(changed(facts, bytes=rng.integers(9_000, 11_000, 150) + 3000 * np.array(marks)))
    assert (warning.kind, warning.severity, warning.numbers["probe"]) == ("shortcut", "warning", "file size")
    assert warning.numbers["accuracy"] > 0.95
    assert "nearest neighbour" in table.detail
    assert "n = 150, majority 50.0 %" in table.title


def test_the_size_of_a_file_that_lost_nothing_is_part_of_what_is_shown(photos):
    """Smooth pictures make small PNGs: what a JPEG takes tells how it was saved too."""
    rng = np.random.default_rng(0)
    marks = np.arange(150) % 2
    size = rng.integers(9_000, 11_000, 150) + 1000 * marks
    facts = facts_of(photos, marks)
    assert kinds(probed(changed(facts, bytes=size, format=b"PNG"))) == ["probes"]
    assert kinds(probed(changed(facts, bytes=size, format=b"JPEG"))) == ["shortcut", "probes"]


def test_the_size_of_a_file_that_its_detail_explains_is_no_shortcut_and_how_it_was_saved_is():
    """Flatter pictures make smaller files at any quality; where one class is saved better, its files are too large."""

    def told(*qualities: int) -> list[str]:
        found = []
        for n, quality in enumerate(qualities):
            flat = natural(n, width=32, height=32).filter(ImageFilter.GaussianBlur(2 * (n % 2)))
            file = io.BytesIO()
            flat.save(file, "JPEG", quality=quality)
            found.append(worker.seen(file.getvalue())[0])
        facts = facts_of([natural(0, width=8, height=8)] * len(found), [n % 2 for n in range(len(found))])
        *warnings, table = probed(replace(facts, table=np.array(found, FACT)))
        assert table.numbers["file size"] > 0.75, table
        return [one.numbers["probe"] for one in warnings if one.numbers["probe"] == "file size"]

    assert told(*[75] * 160) == []
    assert told(*[92, 60] * 80) == ["file size"]


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("picture size", {"width": [96 + 32 * (n % 2) for n in range(150)]}),
        ("file format", {"format": [(b"PNG", b"JPEG")[n % 2] for n in range(150)]}),
    ],
)
def test_size_and_format_that_give_the_class_away_are_warnings(photos, name, columns):
    facts = changed(facts_of(photos, [n % 2 for n in range(150)]), **columns)
    assert [one.numbers["probe"] for one in probed(facts)[:-1]] == [name]


def test_a_frame_or_a_tint_that_gives_the_class_away_is_a_warning(photos):
    def framed(image: Image.Image, k: int) -> Image.Image:
        return ImageOps.expand(image, 8, (200 * k, 30, 30)).resize((96, 72))

    marks = [n % 2 for n in range(150)]
    facts = facts_of([framed(image, k) for image, k in zip(photos, marks, strict=True)], marks)
    assert "border" in [one.numbers["probe"] for one in probed(facts)[:-1]]


def test_a_light_that_tells_more_than_whole_pictures_do_is_a_warning():
    """Too little for a rule that asks most of the way, and more than the pictures themselves tell."""
    chance, marks = np.random.default_rng(0), [n % 2 for n in range(200)]

    def lit(k: int) -> Image.Image:
        """Patches without a meaning, under a light of chance and a little more of it in the second class."""
        patches = chance.uniform(-120, 120, (12, 12, 3))
        level = 120 + chance.normal(0, 9) + 12 * k
        return Image.fromarray((patches - patches.mean() + level).clip(0, 255).astype(np.uint8)).resize((48, 48), 0)

    *warnings, table = probed(facts_of([lit(k) for k in marks], marks))
    assert [one.numbers["probe"] for one in warnings][:1] == ["mean colour"], table.detail
    assert table.numbers["nearest neighbour"] < warnings[0].numbers["accuracy"] < 0.8, table.detail
    assert kinds(probed(facts_of([lit(0) for _ in marks], marks))) == ["probes"]


def test_the_answers_of_the_probes_do_not_come_from_the_pictures_own_fold():
    rng = np.random.default_rng(0)
    noise = facts_of(
        [Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)) for _ in range(200)], rng.integers(0, 2, 200)
    )
    noise = changed(noise, bytes=np.arange(200))
    for probe in shortcut.probes(noise, np.arange(200)):
        assert probe.hits / probe.n < 0.64, probe


# --- labels -----------------------------------------------------------------------------------------------------------


def barred(k: int, seed: int, height: int = 24) -> Image.Image:
    """Noise with a bar whose place tells the class."""
    pixels = np.random.default_rng(seed).integers(0, 60, (height, height, 3), np.uint8)
    pixels[4 + 6 * k : 9 + 6 * k] += 120
    return Image.fromarray(pixels)


def test_planted_wrong_labels_are_the_surest_doubts_and_right_ones_are_not_doubted():
    truth = np.arange(240) % 3
    images = [barred(int(k), n) for n, k in enumerate(truth)]
    clean = facts_of(images, truth)
    assert list(labels.doubtful_labels(clean, labels.doubts(clean, np.arange(240)))) == []
    wrong = np.arange(5, 240, 20)
    given = truth.copy()
    given[wrong] = (given[wrong] + 1) % 3
    noisy = facts_of(images, given, parts=[TEST if n < 10 else TRAIN for n in range(240)])
    doubts = labels.doubts(noisy, np.arange(240))
    assert doubts is not None
    assert set(doubts.rows.tolist()) <= set(wrong.tolist())
    assert len(doubts.rows) >= 6
    assert doubts.suggested.tolist() == truth[doubts.rows].tolist()
    (finding,) = labels.doubtful_labels(noisy, doubts)
    assert (finding.severity, finding.numbers["n"]) == ("warning", 240)
    assert ("00035.png", f"test, class {'abc'[given[5]]}; looks like {'abc'[truth[5]]}") in [
        (key, note.rpartition(" (")[0]) for key, note in finding.files
    ]


def test_a_classifier_that_knows_nothing_doubts_no_one_and_that_is_said(photos):
    facts = facts_of(photos, np.random.default_rng(0).integers(0, 2, 150))
    doubts = labels.doubts(facts, np.arange(150))
    assert doubts is not None
    low = replace(doubts, rows=np.array([3]), suggested=np.array([1]), scores=np.array([-1.0]))
    assert (doubts.skill() < labels.SKILL, labels.as_overlay(facts, low).count("\n")) == (True, 1)
    (finding,) = labels.doubtful_labels(facts, low)
    assert (finding.kind, finding.severity) == ("not-judged", "info")
    assert f"right for {doubts.words()}, n = 150; too little beside a majority of " in finding.title
    few = facts_of(photos[:20])
    assert labels.doubts(few, np.arange(20)) is None
    (finding,) = labels.doubtful_labels(few, None)
    assert finding.title.endswith("at most 1,000 classes; here are 20 whole pictures, 0 of b")
    (finding,) = probed(few)
    assert finding.title == "Shortcuts are not looked for in 20 pictures to train on: that takes 40, of two classes"


@pytest.mark.parametrize(
    ("hits", "doubted", "severity"), [(139, 12, "info"), (139, 16, "warning"), (172, 2, "warning")]
)
def test_the_less_a_classifier_knows_the_more_doubts_are_hard_pictures(photos, hits, doubted, severity):
    rows = np.arange(doubted)
    doubts = labels.Doubts(
        rows=rows, suggested=rows * 0, scores=rows - 99.0, whole=180, n=180, hits=hits, majority=1 / 3
    )
    (finding,) = labels.doubtful_labels(facts_of(photos[:20]), doubts)
    assert (finding.severity, finding.numbers["labels"]) == (severity, doubted)


def test_a_prediction_never_saw_a_copy_of_its_picture():
    """With copies in one fold, random labels cannot be remembered."""
    rng = np.random.default_rng(0)
    inputs = np.repeat(rng.standard_normal((100, 300)), 2, axis=0).astype(np.float32)
    marks = np.repeat(rng.integers(0, 2, 100), 2)
    apart = labels.out_of_fold(inputs, marks, np.arange(200), 2).argmax(axis=1)
    together = labels.out_of_fold(inputs, marks, np.repeat(np.arange(100), 2), 2).argmax(axis=1)
    assert (apart == marks).mean() > 0.8
    assert (together == marks).mean() < 0.65


# --- the first look of a training -------------------------------------------------------------------------------------


def test_the_first_look_says_at_most_three_things_and_nothing_of_clean_data(photos):
    clean = divided(facts_of(photos[:60], [n % 2 for n in range(60)]).index, validation=0.2, test=0.2, seed=0)
    assert first_look(clean, np.array([[72, 96, 3]]), fit="crop", source="pets") == []
    torn = facts_of([*photos[:60], photos[0]], [0] * 57 + [1] * 4).index
    notes = first_look(
        divided(torn, validation=0.2, test=0.2, seed=0), np.array([[72, 960, 3]]), fit="crop", source="pets"
    )
    assert len(notes) == 4
    assert notes[-1] == "`tellapart check pets` says more"
    wide = first_look(clean, np.array([[72, 960, 3]]), fit="crop", source="pets")
    assert wide[0] == "the centre crop throws away 92 % of the pictures; --set input.fit=pad keeps all"
    assert first_look(clean, np.array([[72, 960, 3]]), fit="pad", source="pets") == []


def test_findings_are_ordered_by_severity(tmp_path: Path):
    found = [Finding(kind=kind, severity=kind, title="") for kind in ("info", "serious", "warning")]
    assert kinds(ordered(found)) == ["serious", "warning", "info"]
