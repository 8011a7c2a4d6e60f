from genie.world.played_game import PlayedGame


def change(step, temperature):
    return {"step": step, "sampling": {"temperature": temperature}}


def test_notes_tell_what_was_played_and_replace_what_was_undone():
    game = PlayedGame(2, 7)
    assert game.start() == {"prompt": 2, "seed": 7, "actions": [], "sampling": [], "resume": ""}
    game.learn({"from": 0, "actions": [], "sampling": [], "token": "first", "hash": "world"})
    game.learn({"from": 0, "actions": [1, 2, 3], "sampling": [change(0, 1.0), change(2, 0.5)]})
    game.learn({"from": 2, "actions": [0, 0, 1], "sampling": [change(3, 2.0)]})
    assert game.start() == {
        "prompt": 2,
        "seed": 7,
        "actions": [1, 2, 0, 0, 1],
        "sampling": [change(0, 1.0), change(3, 2.0)],
        "resume": "first",
        "hash": "world",
    }
    game.learn({"from": 5, "actions": [1], "token": "second", "hash": "world"})
    assert (game.token, len(game.actions)) == ("second", 6)


def test_the_server_chooses_a_seed_that_is_not_given():
    assert "seed" not in PlayedGame(0).start()
