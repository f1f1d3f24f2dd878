"""Features as data: what is read of any file, batch by batch, and what is refused."""

import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.data import feature_files
from xray_captioning.data.feature_files import check_suffix, open_features, write_features
from xray_captioning.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
REGIONS = RNG.normal(size=(7, 9, 5)).astype("float16")
IDS = [f"s{number}" for number in range(7)]


def rows(features, places, pool=1):
    return features.read(np.array(places), pool)


def batches(array, size=3):
    for start in range(0, len(array), size):
        part = array[start : start + size]
        yield {"regions": part, "views": np.ones(part.shape[:2], bool)}


def save_npz(path, **arrays):
    np.savez(path, **{"regions": REGIONS, "ids": IDS, **arrays})
    return path


def save_packed(path):
    np.savez_compressed(path, regions=REGIONS, ids=IDS)
    return path


def save_npy(path):
    np.save(path.with_suffix(".npy"), REGIONS)
    path.with_suffix(".txt").write_text("\n".join(IDS) + "\n")
    return path.with_suffix(".npy")


def save_other(path):
    np.savez(path, tokens=REGIONS)
    path.with_suffix(".csv").write_text("split,id\n" + "".join(f"a,{name}\n" for name in IDS))
    return path


def save_zarr(path):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(path.with_suffix(".zarr"), mode="w", attributes={"ids": IDS})
    group.create_array("regions", data=REGIONS, chunks=(2, 9, 5))
    return path.with_suffix(".zarr")


@pytest.mark.parametrize("save", [save_npz, save_packed, save_npy, save_other, save_zarr])
def test_rows_of_any_file_are_those_that_were_written(save, tmp_path):
    features = open_features(save(tmp_path / "f.npz"))
    assert features.ids == IDS
    assert (features.grid, features.channels) == ((1, 3, 3), 5)
    regions, mask = rows(features, [5, 0, 5])
    assert (regions.dtype, mask.shape, bool(mask.all())) == ("float16", (3, 9), True)
    np.testing.assert_array_equal(regions, REGIONS[[5, 0, 5]])


def test_arrays_of_python_are_taken_as_they_are():
    by_name = dict(zip(IDS, REGIONS))
    pairs = {"regions": REGIONS, "ids": IDS}
    for given_features in ((IDS, REGIONS), (REGIONS, IDS), by_name, pairs):
        features = open_features(given_features)
        assert features.ids == IDS
        np.testing.assert_array_equal(rows(features, [2])[0], REGIONS[[2]])
    assert open_features(features) is features


@pytest.mark.parametrize(
    ("shape", "grid"),
    [
        ((4, 6), (1, 1, 1)),
        ((4, 1369, 6), (1, 37, 37)),
        ((4, 10, 6), (1, 1, 10)),
        ((4, 2, 5, 6), (1, 2, 5)),
        ((4, 3, 2, 5, 6), (3, 2, 5)),
    ],
)
def test_shapes_are_views_rows_and_columns(shape, grid):
    features = open_features((list("abcd"), np.zeros(shape, "float32")))
    assert (features.grid, features.channels) == (grid, 6)
    assert rows(features, [1])[0].shape == (1, np.prod(grid), 6)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7), st.data())
def test_pooling_is_that_of_an_encoder(views, height, width, data):
    pool = data.draw(st.integers(1, min(height, width)))
    maps = RNG.normal(size=(2, views, height, width, 3)).astype("float32")
    found, mask = rows(open_features((["a", "b"], maps)), [0, 1], pool)
    tiles = [
        maps[:, v, y : y + pool, x : x + pool].mean(axis=(1, 2))
        for v in range(views)
        for y in range(0, height - pool + 1, pool)
        for x in range(0, width - pool + 1, pool)
    ]
    np.testing.assert_allclose(found, np.stack(tiles, axis=1), atol=1e-6)
    assert mask.shape == found.shape[:2]


@pytest.mark.parametrize("suffix", [".npz", ".zarr"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_written_a_batch_at_a_time_is_read_again(suffix, dtype, tmp_path):
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    maps = RNG.normal(size=(70, 2, 3, 2, 4)).astype("float32")
    names, out = [str(i) for i in range(70)], tmp_path / f"f{suffix}"
    write_features(out, names, batches(maps, 32), {"encoder": "mine"}, dtype)
    features = open_features(out)
    assert (features.ids, features.about.encoder) == (names, "mine")
    found = rows(features, [69, 3])[0]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, maps[[69, 3]].reshape(2, -1, 4).astype(dtype))
    if suffix == ".npz":
        with np.load(out) as arrays:  # as NumPy reads it, too
            np.testing.assert_array_equal(arrays["regions"], maps.astype(dtype))
            assert json.loads(str(arrays["about"])) == {"encoder": "mine"}


def test_a_file_whose_numbers_changed_is_refused(tmp_path):
    maps = RNG.normal(size=(70, 1, 2, 2, 3)).astype("float32")
    write_features(tmp_path / "f.npz", [str(i) for i in range(70)], batches(maps, 32), {"encoder": "mine"})
    data = bytearray((tmp_path / "f.npz").read_bytes())
    at = data.index(maps[40].tobytes())
    data[at : at + 20] = bytes(20)  # as where a disk lost a block: numbers like others
    (tmp_path / "f.npz").write_bytes(data)
    refused(tmp_path / "f.npz", r"cannot be read as features, .* \(regions\.npy is damaged\); write it again")


def test_a_part_of_a_store_that_is_lost_or_damaged_is_not_read_as_zeros(tmp_path):
    pytest.importorskip("zarr")
    maps, views = RNG.normal(size=(70, 1, 2, 2, 3)).astype("float32"), np.ones((70, 1), bool)
    maps[:40], views[:40] = 0, False  # zeros are written, too
    parts = [{"regions": maps[i : i + 32], "views": views[i : i + 32]} for i in (0, 32, 64)]
    write_features(tmp_path / "f.zarr", [str(i) for i in range(70)], parts, {"encoder": "mine"})
    found = rows(open_features(tmp_path / "f.zarr"), range(70))[0]
    np.testing.assert_array_equal(found, maps.reshape(70, 4, 3))
    files = [path for path in (tmp_path / "f.zarr").rglob("*") if path.is_file() and path.name != "zarr.json"]
    assert len(files) == 6
    for file in files:
        kept = file.read_bytes()
        file.unlink()
        refused(tmp_path / "f.zarr", "parts of (regions|views) are missing, which")
        file.write_bytes(kept[:-9])
        with pytest.raises(DataError, match=r"f\.zarr: cannot be read (as features, .*)?\(.*\); ") as caught:
            rows(open_features(tmp_path / "f.zarr"), range(70))
        assert "\n" not in str(caught.value)
        file.write_bytes(kept)


@pytest.mark.parametrize("suffix", [".npz", ".zarr"])
def test_what_breaks_leaves_nothing(suffix, tmp_path):
    if suffix == ".zarr":
        pytest.importorskip("zarr")

    def broken():
        yield from batches(REGIONS[:, None, :, None].astype("float32"))
        raise DataError("an image cannot be read")

    with pytest.raises(DataError, match="an image"):
        write_features(tmp_path / f"f{suffix}", IDS, broken(), {})
    assert not list(tmp_path.iterdir())


def test_a_number_too_large_for_float16_is_refused(tmp_path):
    maps = np.full((2, 1, 1, 1, 3), 1e6, "float32")
    with pytest.raises(DataError, match="does not fit into float16; write them as float32"):
        write_features(tmp_path / "f.npz", ["a", "b"], batches(maps), {}, "float16")


def test_views_that_a_study_lacks_are_masked(tmp_path):
    views = np.ones((7, 1), bool)
    views[2] = False
    features = open_features(save_npz(tmp_path / "f.npz", views=views))
    assert rows(features, [2, 1])[1].all(axis=1).tolist() == [False, True]


def test_ids_that_take_much_room_are_read_as_others(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_files, "WHOLE", 4)
    assert open_features(save_npz(tmp_path / "f.npz")).ids == IDS


def refused(path, message):
    with pytest.raises(DataError, match=message) as found:
        open_features(path)
    assert "\n" not in str(found.value)


def test_files_that_are_no_features_are_refused_in_one_line(tmp_path):
    path = tmp_path / "f.npz"
    refused(save_npz(path, ids=IDS[:3]), "7 rows, 3 ids")
    refused(save_npz(path, ids=REGIONS), "its ids have")
    refused(save_npz(path, ids=np.array(0)), "its ids have 0 axes")
    refused(save_npz(path, regions=np.array([["a"]] * 7)), "features are numbers")
    refused(save_npz(path, regions=np.array([{}] * 7, object)), "cannot be read as features")
    refused(save_npz(path, ids=np.array(IDS, object)), "cannot be read as features")
    refused(save_npz(path, views=np.ones((7, 2))), "views \\(7, 2\\)")
    refused(save_npz(path, regions=np.asfortranarray(REGIONS)), "Fortran")
    np.savez(path, regions=REGIONS)
    refused(path, "lacks ids.*f.txt")
    np.savez(path, ids=IDS)
    refused(path, "lacks regions")
    path.write_bytes(b"not a zip")
    refused(path, "cannot be read as features")
    refused(tmp_path / "none.npz", "No such file")
    refused(3, "give their path")
    pytest.importorskip("zarr")
    (tmp_path / "f.zarr").mkdir()
    refused(tmp_path / "f.zarr", "cannot be read as features")


def test_truncated_and_lying_files_take_no_memory(tmp_path):
    path = save_npy(tmp_path / "f.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    refused(path, "truncated")
    path.write_bytes(whole.replace(b"(7, 9, 5)", b"(7, 9,55)"))
    refused(path, "truncated")
    lying = tmp_path / "lying.npz"
    with zipfile.ZipFile(lying, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("regions.npy", whole.replace(b"(7, 9, 5)", b"(7, 9,55)"))
    refused(lying, "cannot be read as features")


def test_a_large_compressed_array_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_files, "WHOLE", 100)
    refused(save_packed(tmp_path / "f.npz"), "large and compressed")


def test_numbers_that_are_none_are_refused_by_the_study(tmp_path):
    bad = REGIONS.copy()
    bad[4, 2, 1], bad[6, 0, 0] = np.inf, np.nan
    features = open_features(save_npz(tmp_path / "f.npz", regions=bad))
    features.places.update(zip(IDS, range(7)))
    features.check(IDS[:4])
    for name in ("s4", "s6"):
        with pytest.raises(DataError, match=f"study {name} hold NaN or infinity"):
            features.check(["s0", name])


def test_a_run_knows_its_features_again():
    other = REGIONS.copy()
    other[6, 0, 0] += 1
    digests = [open_features((IDS, array)).digest() for array in (REGIONS, REGIONS.copy(), other)]
    assert digests[0] == digests[1] != digests[2]


def test_only_names_of_formats_are_written():
    check_suffix(feature_files.Path("a.npz"))
    with pytest.raises(ConfigError, match=r"\.npz or \.zarr"):
        check_suffix(feature_files.Path("a.h5"))
