import json

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
        assert given.pop() == (tmp_path / "m", "მზე", "ეკა", out, expected, 5)
        assert "1.0 s" in capsys.readouterr().out
