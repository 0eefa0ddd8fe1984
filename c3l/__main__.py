"""`python -m c3l`."""

if __name__ == "__main__":  # worker processes import this file under another name
    try:
        from c3l.cli.app import main
    except KeyboardInterrupt:  # nothing has begun, and nobody else would catch it yet
        raise SystemExit(130) from None
    main()
