from genie.data.sources.find import find_videos, kinds
from genie.data.sources.videos import VideoFiles


def test_each_module_is_a_kind():
    assert VideoFiles in kinds()
    assert all(kind.about for kind in kinds())


def test_videos_are_found_at_any_depth_in_the_order_of_their_names(tmp_path):
    for name in ("b.MP4", "a/x.webm", "a/b/c.gif", ".git/x.mp4", "a/.x.mkv", "a/readme.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_videos(tmp_path)
    assert list(found) == ["a/b/c.gif", "a/x.webm", "b.MP4"]
    assert set(found.values()) == {VideoFiles(tmp_path)}
