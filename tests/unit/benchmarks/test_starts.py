from benchmarks.starts import summary


def test_the_longest_try_decides() -> None:
    result = summary("job_without_redis", [1.0, 14.9, 3.0])
    assert (result["num_tries"], result["p50_seconds"], result["max_seconds"]) == (3, 3.0, 14.9)
    assert (result["bar"]["verdict"], result["bar"]["limit"]) == ("pass", 15.0)
    assert summary("inspection_beside_training", [1.0, 5.1])["bar"]["verdict"] == "miss"


def test_without_a_try_nothing_is_measured() -> None:
    assert summary("job_without_redis", [])["bar"]["verdict"] == "not measured"
