import json

import pytest
import soundfile

import synthesize


def test_without_a_trained_model_it_says_what_to_do(tmp_path, capsys):
    (tmp_path / "c.json").write_text("{}")
    out = tmp_path / "a.wav"
    assert synthesize.main(["--config", str(tmp_path / "c.json"), "--text", "გამარჯობა", "--output", str(out)]) == 2
    assert "full_pretrain" in capsys.readouterr().err and not out.exists()


def test_the_configs_model_device_and_seed_are_used(tmp_path, capsys, monkeypatch):
    given = []

    def speak(*arguments):
        given.append(arguments)
        soundfile.write(arguments[3], [0.0] * 24000, 24000)
        return 1.0

    monkeypatch.setattr("xtts_ka.speech.synthesis.speak", speak)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    out = tmp_path / "a.wav"
    for device, expected in (("auto", "cuda"), ("cpu", "cpu")):
        (tmp_path / "c.json").write_text(json.dumps({"output_model_path": "m", "device": device, "seed": 5}))
        flags = ["--text", "მზე", "--speaker", "ეკა", "--output", str(out)]
        assert synthesize.main(["--config", str(tmp_path / "c.json"), *flags]) == 0
        assert given.pop() == (tmp_path / "m", "მზე", "ეკა", out, expected, 5, 3)
        assert "1.0 s" in capsys.readouterr().out


@pytest.mark.parametrize(("flags", "attempts"), [([], 3), (["--attempts", "1"], 1), (["--no-guard"], 0)])
def test_the_guards_attempts_are_those_asked_for(tmp_path, monkeypatch, flags, attempts):
    given = []
    monkeypatch.setattr("xtts_ka.speech.synthesis.speak", lambda *arguments: given.append(arguments) or 1.0)
    (tmp_path / "c.json").write_text(json.dumps({"output_model_path": "m", "device": "cpu"}))
    assert synthesize.main(["--config", str(tmp_path / "c.json"), "--text", "მზე", *flags]) == 0
    assert given[0][-1] == attempts


@pytest.mark.parametrize("number", ["0", "-1", "x", "101"])
def test_a_number_of_attempts_that_cannot_be_is_refused(number, capsys):
    with pytest.raises(SystemExit) as refused:
        synthesize.main(["--text", "მზე", "--attempts", number])
    assert refused.value.code == 2 and "no number from 1 to 100" in capsys.readouterr().err
