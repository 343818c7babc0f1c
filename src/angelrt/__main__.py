"""`python -m angelrt`."""

if __name__ == "__main__":
    # Processes of process actors run this file again under another name: nothing may be loaded for them, nor by a relative name.
    from angelrt.cli import main

    main()
