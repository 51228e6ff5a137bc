"""The script that draws the pictures of the tutorial."""

from PIL import Image
from scripted import scripts


def test_drawings_of_a_seed_are_the_same_and_differ_among_each_other(tmp_path):
    with scripts("scripts/dev") as load:
        script = load("own_drawings")
    for folder, seed in (("once", 0), ("again", 0), ("other", 1)):
        script.write(tmp_path / folder, seed, count=3)
    once, again, other = (
        {
            path.relative_to(tmp_path / name).as_posix(): path.read_bytes()
            for path in (tmp_path / name).rglob("*.png")
        }
        for name in ("once", "again", "other")
    )
    assert sorted(once) == [
        f"{name}/{number:02d}.png" for name in ("letters", "shapes", "stripes") for number in range(3)
    ]
    assert once == again
    assert len({*once.values(), *other.values()}) == 18
    with Image.open(tmp_path / "once" / "letters" / "00.png") as picture:
        assert (picture.size, picture.mode) == ((96, 96), "RGB")
