from benchmarks.starts import summary


def test_the_longest_try_decides() -> None:
    kept = summary("job_without_redis", [1.0, 14.9, 3.0])
    assert (kept["num_tries"], kept["p50_seconds"], kept["max_seconds"]) == (3, 3.0, 14.9)
    assert (kept["bar"]["verdict"], kept["bar"]["limit"]) == ("pass", 15.0)
    assert summary("inspection_beside_training", [1.0, 5.1])["bar"]["verdict"] == "miss"


def test_without_a_try_nothing_is_kept() -> None:
    assert summary("job_without_redis", [])["bar"]["verdict"] == "not measured"
